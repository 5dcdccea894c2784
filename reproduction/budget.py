"""How long trainings would take, and how a given time is shared among them."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.validate import validate, validate_data

# Steps are timed for this long, after the first dispatch, which is the warm-up.
_SECONDS = 3.0
# A forward pass costs about a third of a forward and a backward pass.
_EVALUATION = 1 / 3


def seconds_per_epoch(config: c.Config, *, arrays: Mapping[str, np.ndarray] | None = None) -> float:
    """What an epoch would take, validation included, from a few timed steps of the first phase.

    Weights are not loaded: speed does not depend on them. A validation image is taken to cost a third of a training
    image; a later phase's stronger augmentation is not looked at.

    Raises:
      UserError: whatever training would raise for the config or its data.
    """
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    dataset = data.load(config.data, arrays=arrays)
    validate_data(config, dataset)
    transfer = dataclasses.replace(config.transfer, init_from=None, replace=(), allow_frozen_random=True)
    run = Experiment(dataclasses.replace(config, transfer=transfer), dataset, mesh)
    state, _ = run.enter_phase(run.initial_state(), 0, previous=0)
    dispatches = feed.endless(run.training, state)
    jax.block_until_ready(next(dispatches)[0])
    started, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        metrics, more = next(dispatches)
        jax.block_until_ready(metrics)
        steps += more
    validation = len(dataset.validation or ()) / config.batch_size
    return elapsed / steps * (run.steps_per_epoch + _EVALUATION * validation)


def allot(costs: Sequence[float], least: Sequence[float], budget: float) -> list[float]:
    """Seconds for each training: equal shares of `budget`, where what one does not need goes to the others.

    While a share would be below its training's least, the training with the greatest least is left out.

    Args:
      costs: what each would take in full, seconds.
      least: what each needs to be run at all, seconds.
      budget: of all together, seconds.

    Returns:
      What each gets; 0 for those left out.
    """
    running = set(range(len(costs)))
    while True:
        allotted = [0.0] * len(costs)
        left = budget
        for place, i in enumerate(sorted(running, key=lambda i: costs[i])):  # the cheapest first
            allotted[i] = min(costs[i], left / (len(running) - place))
            left -= allotted[i]
        if all(allotted[i] >= least[i] for i in running):
            return allotted
        running.remove(max(running, key=lambda i: least[i]))
