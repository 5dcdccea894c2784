"""Devices, and which part of each array lives on which of them.

The mesh has two axes. A batch is split over both; parameters and optimiser state are whole on every device of the
`data` axis and split over the `fsdp` axis. Everything runs under `jax.jit`, so a step computes the same numbers on
one device and on many (up to the rounding of sums), BatchNorm statistics included.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from imgcls_jax import config as c
from imgcls_jax.errors import UserError

# Arrays with fewer elements than this are copied rather than split: gathering them costs more than it saves.
_SMALLEST_SPLIT = 2**14


def start_processes() -> None:
    """Join the other processes of a multi-process run, where the environment describes one.

    SLURM, Open MPI, Kubernetes and TPU pods are found by JAX itself; elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say it.
    """
    if "JAX_NUM_PROCESSES" in os.environ:
        try:
            address = os.environ["JAX_COORDINATOR_ADDRESS"]
            count, index = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"JAX_NUM_PROCESSES is set, so JAX_COORDINATOR_ADDRESS (host:port) and JAX_PROCESS_ID "
                f"(a number) are needed too: {error}"
            ) from None
        jax.distributed.initialize(address, num_processes=count, process_id=index)
    elif os.environ.get("IMGCLS_DISTRIBUTED") == "auto":
        jax.distributed.initialize()


def make(config: c.Mesh) -> jax.sharding.Mesh:
    """A mesh of axes `data` × `fsdp` over all devices, or over the first `config.devices` local ones."""
    devices = jax.devices()
    if config.devices is not None:
        if jax.process_count() > 1:
            raise UserError("mesh.devices picks among one process's devices; leave it None in a multi-process run")
        if config.devices > len(devices):
            raise UserError(f"mesh.devices is {config.devices}, but this machine has {len(devices)}: lower it")
        devices = devices[: config.devices]
    if len(devices) % config.fsdp:
        raise UserError(f"mesh.fsdp = {config.fsdp} does not divide the number of devices, {len(devices)}")
    grid = np.asarray(devices).reshape(-1, config.fsdp)
    return jax.sharding.Mesh(grid, ("data", "fsdp"))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def put(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Host arrays onto the devices; of a split array each process gives its own part."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def state(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """A sharding for each array of a training state: the longest axis that the fsdp axis divides is split over it."""
    parts = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        if parts > 1 and np.size(leaf) >= _SMALLEST_SPLIT:
            for axis in sorted(range(len(shape)), key=lambda i: -shape[i]):
                if shape[axis] % parts == 0:
                    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))
        return replicated(mesh)

    return jax.tree.map(sharding, tree)
