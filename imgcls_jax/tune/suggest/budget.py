"""Fit a training into a given time, by the time of a few of its steps."""

import dataclasses
import time
from collections.abc import Callable

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data.examples import Progress, no_progress
from imgcls_jax.display.console import duration
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.validate import validate, validate_data
from imgcls_jax.tune.batch import Trials

# A part of the budget is kept for what a step's time does not tell: checkpoints, and a machine that slows down.
_USED = 0.9


def fit(
    config: c.Config,
    seconds: float,
    *,
    on_progress: Progress = no_progress,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[c.Config, str]:
    """Choose the number of epochs that fit into a time; no more than twice those of the config.

    The images are decoded, the step is compiled and timed; what that took counts, and the compilation counts once more.

    Args:
      config: the training.
      seconds: the time for all of it.
      on_progress: called as on_progress(label, done, total) while images are decoded.
      clock: gives the time, seconds.

    Returns:
      The config with other epochs, and why.

    Raises:
      UserError: not even one epoch fits.
    """
    began = clock()
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    dataset = data.load(config.data, on_progress=on_progress)
    validate_data(config, dataset)
    loaded = clock()
    trial = Trials(config, dataset, mesh, lambda trial: None)(config.batch_size)
    if trial.images_per_second is None:
        raise UserError(f"a batch of {config.batch_size} {trial.verdict.removeprefix('does not fit, ')}: lower it")
    now = clock()
    images, speed = {split.name: len(split) for split in dataset.splits}, trial.images_per_second
    left = seconds * _USED - (now - began) - (now - loaded) - images.get("test", 0) / speed
    per_epoch = (images["train"] + images.get("validation", 0)) / speed
    epochs = min(2 * config.epochs, int(left / per_epoch))
    measured = f"at {speed:,.0f} images per second, as measured, an epoch takes {duration(per_epoch)}"
    if epochs < 1:
        raise UserError(
            f"a budget of {duration(seconds)} is too short: {measured}, and what comes before and after "
            f"{duration(max(seconds - left, 0))}; take --size or --model, or fewer images"
        )
    return dataclasses.replace(config, epochs=epochs), f"within {duration(seconds)}: {measured}"
