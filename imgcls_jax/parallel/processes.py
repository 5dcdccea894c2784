"""The processes of a run: how they meet, what only the first one does, and how they stop and end together.

A process that was not started by `start`, such as one whose program calls `jax.distributed.initialize` itself, trains
with the others all the same; it does not agree with them on mistakes and deaths.
"""

import socket
from collections.abc import Callable

import jax

from imgcls_jax.errors import UserError
from imgcls_jax.parallel.channel import Channel, Leave
from imgcls_jax.parallel.cluster import Cluster, check_devices
from imgcls_jax.parallel.relay import relay

_channel: Channel | None = None


def start(cluster: Cluster | None, leave: Leave, *, timeout: float = 300) -> None:
    """Join the other processes of a run, if there are any, before anything touches a device.

    Args:
      cluster: what `cluster.find` found.
      leave: how this process ends when another one has: with this status, after printing this sentence.
      timeout: seconds to wait for all processes.

    Raises:
      UserError: they did not come, contradict each other, or leave devices unused that Slurm gave them.
    """
    global _channel
    if cluster is None:
        return
    _channel = Channel(cluster, leave, timeout=timeout)
    # Its handler would swallow SIGTERM; see `request_stop`.
    jax.config.update("jax_enable_preemption_service", False)
    port = _channel.jax_port
    jax.distributed.initialize(
        f"localhost:{port if cluster.index == 0 else relay(cluster.host, port)}",
        coordinator_bind_address=f"[::]:{port}" if socket.has_ipv6 else f"0.0.0.0:{port}",
        num_processes=cluster.count,
        process_id=cluster.index,
        local_device_ids=cluster.local_devices,
        cluster_detection_method="deactivate",
    )
    local = jax.local_devices()
    check_devices(len(local), local[0].platform)


def joined() -> Channel | None:
    """Return the connection to the other processes; None in a process that is alone or was started otherwise."""
    return _channel


def first(act: Callable[[], None]) -> None:
    """Let the first process act while the others wait for it; its UserError ends all of them."""
    if jax.process_index() == 0:
        act()
    wait()


def wait() -> None:
    """Wait for the other processes, for as long as they live. A collective would give up after half a minute."""
    if _channel is not None:
        _channel.gather(None)


def check_same(what: str, value: str) -> None:
    """Wait for the other processes, and refuse to go on where they differ from the first one.

    Args:
      what: what is compared, such as "data".
      value: this process's.

    Raises:
      UserError: another one has another value.
    """
    if _channel is None:
        return
    values = _channel.gather(value)
    other = next((i for i, theirs in enumerate(values) if theirs != values[0]), None)
    if other is not None:
        raise UserError(f"process {other} has other {what} ({values[other]}) than the first one ({values[0]})")
