"""How much memory a compiled step takes, how much there is, and what would fit where it does not."""

import contextlib
import dataclasses
import gc
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from imgcls_jax import config as c
from imgcls_jax.display.console import size
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import transfer
from imgcls_jax.training.experiment import Experiment

# On a CPU no allocation fails: the machine swaps, or kills the process. So this share of what is free is the limit.
_HOST_SHARE = 0.8
# Each is compiled, on a CPU part by part.
_MOST_ACCUMULATIONS = 4
# Share of the need before that a smaller size must take for a still smaller one to be tried.
_WORTH_GOING_ON = 0.95


class OutOfMemory(UserError):
    """The training step does not fit into the device's memory."""


def memory_limit(mesh: jax.sharding.Mesh) -> int:
    """Return the bytes that training may take on one device; on a CPU, a share of the host's free memory."""
    if mesh.local_devices[0].platform != "cpu":
        return transfer.device_memory(mesh)
    free = [transfer.device_memory(mesh) * len(mesh.local_devices)]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")  # of a container, whose limit the machine's memory does not show
    if (group / "memory.max").exists() and (most := (group / "memory.max").read_text().strip()) != "max":
        free.append(int(most) - int((group / "memory.current").read_text()))
    return int(_HOST_SHARE * min(free)) // len(mesh.local_devices)


def step_memory(experiment: Experiment, step: jax.stages.Compiled) -> int | None:
    """Return the bytes that a compiled step and the evaluation's images take on one device; None if unknown."""
    analysis = step.memory_analysis()
    if analysis is None:
        return None
    beside = sum(split.nbytes for split in experiment.dataset.splits[1:]) if experiment.resident else 0
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes  # the state is updated in place
    return analysis.argument_size_in_bytes + results + analysis.temp_size_in_bytes + beside


def config_memory(experiment: Experiment, config: c.Config, epoch: int) -> int | None:
    """Compile the step of another config on the same data, and return its bytes on one device; None if unknown.

    Raises:
      UserError: the config cannot be trained.
    """
    other = Experiment(config, experiment.dataset, experiment.mesh, schedule=experiment.schedule)
    _, step = other.enter_phase(other.abstract_state(epoch), epoch, previous=epoch)
    return step_memory(other, step)


def explained(experiment: Experiment) -> contextlib.AbstractContextManager[None]:
    """Turn the exhaustion of a device's memory, within it, into a sentence that says by how much, and what fits.

    Raises:
      OutOfMemory: in place of JAX's error.
    """
    return explained_by(lambda reason: _explanation(experiment, reason))


@contextlib.contextmanager
def explained_by(explain: Callable[[str], str]) -> Iterator[None]:
    """Turn the exhaustion of a device's memory, within it, into what `explain` makes of JAX's words.

    Raises:
      OutOfMemory: in place of JAX's error.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        reason = str(error)
    else:
        return
    # Outside the handler, whose traceback would keep the failed step's arrays.
    raise OutOfMemory(explain(reason))


def is_exhausted(error: jax.errors.JaxRuntimeError) -> bool:
    """Tell whether JAX says that a device has no memory left."""
    return "RESOURCE_EXHAUSTED" in str(error)


def _explanation(experiment: Experiment, reason: str) -> str:
    config = experiment.config
    for name in ("training", "validate", "test", "evaluators"):  # they hold images on the device
        experiment.__dict__.pop(name, None)
    gc.collect()
    available = memory_limit(experiment.mesh)
    need = _need(experiment, config)
    found = re.search(r"allocat\w* (\d+) bytes|allocat\w* ([\d.]+ ?[KMGT]i?B)", reason)
    fact = f"the device ran out of memory{f' at an allocation of {found[2] or size(int(found[1]))}' if found else ''}"
    if need is not None and need > available:
        fact += (
            f": the step with batch_size = {config.batch_size} takes {size(need)} of {size(available)}, "
            f"{size(need - available)} too much"
        )
    elif need is not None:
        fact += f": the step takes {size(need)} of {size(available)} by analysis, and something else the rest"
        available = min(available, need - 1)  # what takes as much will fail again
    what_fits = _what_fits(experiment, available)
    if not what_fits:
        return (
            f"{fact}; no smaller batch, accumulation or rematerialization fits: take a smaller model or image size, "
            "or more devices with mesh.fsdp"
        )
    listed = "".join(f"\n  {settings}  ({size(bytes_)})" for settings, bytes_ in what_fits)
    return f"{fact}; compiled and found to fit:{listed}"


def _what_fits(experiment: Experiment, available: int) -> list[tuple[str, int]]:
    """Find what fits of: accumulation with the same batch, rematerialization, a smaller batch; each was compiled."""
    config, devices = experiment.config, experiment.mesh.size
    batch, parts = config.batch_size, config.optim.accumulate
    powers = [2**k for k in range(1, batch.bit_length())]
    accumulations = [parts * k for k in powers[:_MOST_ACCUMULATIONS] if batch % (parts * k * devices) == 0]
    ways: list[list[tuple[str, dict[str, Any]]]] = [
        [
            (f"--config.optim.accumulate={n}", {"optim": dataclasses.replace(config.optim, accumulate=n)})
            for n in accumulations
        ],
        [] if config.remat else [("--config.remat=True", {"remat": True})],
        [
            (f"--config.batch_size={batch // k}", {"batch_size": batch // k})
            for k in powers
            if batch % (k * devices * parts) == 0
        ],
    ]
    found = []
    for way in ways:
        before: float = math.inf
        for setting, change in way:
            need = _need(experiment, dataclasses.replace(config, **change))
            if need is not None and need <= available:
                found.append((setting, need))
            if need is not None and (need <= available or need > _WORTH_GOING_ON * before):
                break
            before = before if need is None else need
    return found


def _need(experiment: Experiment, config: c.Config) -> int | None:
    """The bytes of a config's largest step; None where it cannot even be compiled."""
    starts = [0, *(epoch for epoch in range(1, config.epochs) if experiment.phase_changes(epoch))]
    needs = []
    for epoch in starts:
        try:
            needs.append(config_memory(experiment, config, epoch))
        except UserError:
            return None
        except jax.errors.JaxRuntimeError as error:
            if not is_exhausted(error):
                raise
            return None
    known: list[Any] = [need for need in needs if need is not None]
    return max(known, default=None)
