"""Tell the settings with which a run may go on from those that make it another run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from imgcls_jax.config import Config, io
from imgcls_jax.errors import UserError
from imgcls_jax.optim import schedules

# Where the images are, how they get to the devices, how often the run is watched and saved, and what it is called:
# nothing of it is part of what is computed. Whether the images are the same, their hash tells.
_PLACES = ("name", "mesh", "logging", "eval_batch_size", "save_every_steps", "save_every_minutes", "log_every_steps")
_PLACES_OF_DATA = ("feed", "workers", "cache_dir", "cache_gib")
_PLACES_OF_SOURCE = ("path", "folder", "data_dir")
# Steps of an epoch by which rates are compared; any number gives the same.
_STEPS = 100
_MOST_DIFFERENCES = 20


def check(begun: Config, config: Config, workdir: Path) -> None:
    """Refuse to go on with another run than the one in `workdir`.

    Args:
      begun: the config that the run in `workdir` began with.
      config: the config to go on with. Its places may be others, and its epochs more where that changes no step.
      workdir: the run's folder, for the message.

    Raises:
      UserError: `config` describes another run; every difference is listed.
    """
    same = carried_over(begun, config)
    if grows(same, config):
        _refuse_other_steps(same, config, workdir)
    elif differences := io.difference(same, config):
        more = len(differences) - _MOST_DIFFERENCES
        listed = differences[:_MOST_DIFFERENCES] + ([f"… and {more} more"] if more > 0 else [])
        raise UserError(
            f"{workdir} holds a run of another config; choose another --workdir, or --overwrite to move it aside:"
            + "".join(f"\n  {line}" for line in listed)
        )


def carried_over(begun: Config, config: Config) -> Config:
    """Return the config that a run began with, its places being those of `config`."""
    source = begun.data.source
    if type(source) is type(config.data.source):
        source = _with(source, config.data.source, _PLACES_OF_SOURCE)
    data = dataclasses.replace(_with(begun.data, config.data, _PLACES_OF_DATA), source=source)
    return dataclasses.replace(_with(begun, config, _PLACES), data=data)


def grows(begun: Config, config: Config) -> bool:
    """Whether `config` wants nothing else than a run that began with `begun`, but more epochs."""
    return begun.epochs < config.epochs and dataclasses.replace(begun, epochs=config.epochs) == config


def rates(begun: Config, config: Config) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Return the learning rates of the epochs of `begun`, by its own schedule and by that of `config`."""
    ours, theirs = (
        schedules.build(each.optim.schedule, steps_per_epoch=_STEPS, epochs=each.epochs) for each in (begun, config)
    )
    steps = range(begun.epochs * _STEPS)
    return np.array([ours.at(step) for step in steps]), np.array([theirs.at(step) for step in steps])


def _refuse_other_steps(begun: Config, config: Config, workdir: Path) -> None:
    """Raise UserError unless a run that goes on to more epochs took the steps of one that had them from the start."""
    ours, theirs = rates(begun, config)
    if (ours != theirs).any():
        epoch = int((ours != theirs).argmax()) // _STEPS + 1
        raise UserError(
            f"{workdir} was begun for {begun.epochs} epochs, and {type(begun.optim.schedule.shape).__name__} shapes "
            f"the learning rate by their number: of {config.epochs}, already epoch {epoch} would have been another. "
            f"Train them in another --workdir; --config.transfer.init_from={workdir} starts from this run's weights"
        )


def _with(value: Any, other: Any, names: tuple[str, ...]) -> Any:
    there = {field.name for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **{name: getattr(other, name) for name in names if name in there})
