"""Find a learning rate by a range test (Smith 2015, "Cyclical learning rates"; fastai's lr_find).

It takes training's own steps (augmentation, loss, optimizer, the learning rates of groups) at a rate that rises
exponentially from step to step, until the loss diverges, on a copy of the state.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.display import figures
from imgcls_jax.errors import UserError
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record import checkpoint
from imgcls_jax.training import feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.resume import restore, resume_point
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.validate import validate, validate_data

# Share of the old smoothed loss that stays at a step. It lags about 1 / (1 − 0.9) steps behind.
_SMOOTHING = 0.9
# The smoothed loss has diverged where it exceeds its minimum this many times; fastai's number.
_DIVERGENCE = 4.0
# The first steps' smoothed loss is the mean of so few batches that its minimum would be chance.
_SETTLING = 10
_FEWEST_STEPS = 3 * _SETTLING


@dataclass(frozen=True)
class Trace:
    """The steps of a range test until the loss diverged; the lists have one entry per step."""

    rate: list[float]
    """Learning rate of each step, before the factors of parameter groups."""
    loss: list[float]
    """Mean training loss of each step's batch, before the step's update."""
    smoothed: list[float]
    """Its exponential moving average, corrected for the bias of its start at zero."""
    diverged: bool
    """Whether the test ended because the loss diverged, rather than at the highest rate."""


@dataclass(frozen=True)
class Suggestion:
    """Learning rates read off a trace."""

    minimum: float
    """Rate at which the smoothed loss was lowest."""
    tenth_of_minimum: float
    steepest: float
    """Rate below `minimum` at which the smoothed loss fell fastest per factor of the rate."""
    recommended: float
    """`tenth_of_minimum` or `steepest`."""
    reason: str
    """Why it is the one that is recommended."""


def find(
    config: c.Config,
    *,
    workdir: Path | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    on_progress: Callable[[str, int, int | None], None] | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> Trace:
    """Run the test from the initial state of `config`, or from the latest checkpoint of its run in `workdir`.

    Args:
      config: the experiment; its schedule does not matter here.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      lowest, highest: rates of the first and of the last step.
      steps: their number; the data are read as often as needed.
      on_progress: called after every step with what is being done, the steps done, and their number.
      tell: is given a sentence for each damaged checkpoint of the run, which is passed over.

    Raises:
      UserError: something in the config, the data, the range or the work directory is wrong.
    """
    if not 0 < lowest < highest:
        raise UserError(f"the range test needs 0 < --lowest < --highest, not {lowest:g} and {highest:g}")
    if steps < _FEWEST_STEPS:
        raise UserError(f"--steps {steps} are too few to tell a trend from chance: take at least {_FEWEST_STEPS}")
    # Streaming dispatches one step at a time, so that each step's loss is seen; its batches are the same.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, feed="streamed"))
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    dataset = data.load(config.data, arrays=arrays)
    validate_data(config, dataset)
    run = Experiment(config, dataset, mesh, schedule=rising(lowest, highest, steps))
    if workdir is None:
        return range_test(run, run.initial_state(), on_progress=on_progress)
    return range_test(run, *_latest(run, workdir, tell), on_progress=on_progress)


def rising(lowest: float, highest: float, steps: int) -> LearningRate:
    """Make a schedule whose rate grows by the same factor at each step."""
    return LearningRate(np.geomspace(lowest, highest, steps).astype(np.float32), steps_per_entry=1)


def range_test(
    run: Experiment,
    train_state: TrainState,
    epoch: int = 0,
    previous: int = 0,
    *,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> Trace:
    """Train a copy of `train_state` at the rates of `run.schedule`, one step each, until the loss diverges.

    Args:
      run: fed one step a dispatch, with a `rising` schedule.
      train_state: a state of the epoch `previous`; it stays as it is.
      epoch: the epoch whose augmentation and trained parameters are tested.
      on_progress: see `find`.
    """
    train_state, _ = run.enter_phase(train_state, epoch, previous=previous)
    rates = [float(rate) for rate in run.schedule.table]
    trace = Trace([], [], [], diverged=False)
    total, count, average = 0.0, 0, 0.0
    steps = feed.endless(run.training, _copy(train_state), epoch)
    for i, (rate, (metrics, _)) in enumerate(zip(rates, steps, strict=False)):
        if on_progress:
            on_progress("learning-rate range test", i + 1, len(rates))
        images = int(metrics.loss.count) - count  # metrics are sums since the start
        if not images:
            continue  # fp16 gradients overflowed: the step was skipped, and the loss scale lowered
        loss = (float(metrics.loss.total) - total) / images
        if not math.isfinite(loss):
            return dataclasses.replace(trace, diverged=True)
        total, count = float(metrics.loss.total), int(metrics.loss.count)
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        trace.rate.append(rate)
        trace.loss.append(loss)
        trace.smoothed.append(average / (1 - _SMOOTHING ** len(trace.loss)))
        if trace.smoothed[-1] > _DIVERGENCE * min(trace.smoothed[_SETTLING:], default=math.inf):
            return dataclasses.replace(trace, diverged=True)
    return trace


def _latest(run: Experiment, workdir: Path, tell: Callable[[str], None]) -> tuple[TrainState, int, int]:
    """Restore the latest sound checkpoint: its state, the epoch in which training continues, and that of the state."""

    def read(step: int) -> tuple[TrainState, int, int]:
        saved = resume_point(checkpoints, step)
        run.group_batch_norm(saved.get("batch_groups", run.batch_groups))
        train_state, previous = restore(run, checkpoints, step, saved)
        return train_state, min(saved["epoch"], run.config.epochs - 1), previous

    with checkpoint.of_run(workdir) as checkpoints:
        found = checkpoints.newest_sound(read, tell)
    assert found is not None, "there is a checkpoint"
    return found


def _copy(train_state: TrainState) -> TrainState:
    """Copy a state into new buffers, because a step donates its state; step count and metrics start from zero."""

    def copy(train_state: TrainState) -> TrainState:
        return jax.tree.map(jnp.copy, train_state).replace(
            step=jnp.zeros((), jnp.int32), lr_factor=jnp.ones((), jnp.float32), metrics=train_state.metrics.empty()
        )

    return jax.jit(copy, out_shardings=jax.tree.map(lambda x: x.sharding, train_state))(train_state)


def suggest(trace: Trace) -> Suggestion | None:
    """Read a schedule's highest learning rate off a trace; None if the loss never fell."""
    smoothed, rate = np.array(trace.smoothed), np.array(trace.rate)
    if len(rate) < _SETTLING + 2:
        return None
    lowest = _SETTLING + int(np.argmin(smoothed[_SETTLING:]))
    if lowest == _SETTLING:
        return None
    slope = np.gradient(smoothed, np.log(rate))
    steepest = float(rate[_SETTLING + int(np.argmin(slope[_SETTLING : lowest + 1]))])
    minimum = float(rate[lowest])
    if lowest == len(rate) - 1:
        recommended, reason = (
            steepest,
            "the steepest descent, for now: the loss still fell at the highest rate, so that its minimum is not known; "
            "raise --highest",
        )
    else:
        recommended, reason = (
            minimum / 10,
            "a tenth of the minimum: at the minimum itself training is about to diverge, and the steepest descent "
            "depends more on the chance of single batches",
        )
    return Suggestion(minimum, minimum / 10, steepest, recommended, reason)


def plot(trace: Trace, suggestion: Suggestion | None, peak: float, path: Path, *, title: str) -> None:
    """Write a PNG of the losses over the learning rate; `peak` is the config's own rate."""
    figure = figures.figure(7.0, 4.2)
    axes = figure.subplots()
    axes.plot(trace.rate, trace.loss, ".", alpha=0.3, color="tab:blue", label="loss of a batch")
    axes.plot(trace.rate, trace.smoothed, color="tab:blue", label="smoothed")
    lines = {f"config's peak {peak:.2g}": (peak, "tab:gray", ":")}
    if suggestion:
        lines[f"steepest descent {suggestion.steepest:.2g}"] = (suggestion.steepest, "tab:orange", "--")
        tenth = suggestion.tenth_of_minimum
        lines[f"tenth of the minimum {tenth:.2g}"] = (tenth, "tab:green", "--")
    for label, (rate, color, style) in lines.items():
        axes.axvline(rate, color=color, linestyle=style, label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=figures.literal(title))
    # The end of a divergence would squeeze the part that matters.
    low, high = min(trace.smoothed), min(max(trace.smoothed), 1.5 * max(trace.smoothed[:_SETTLING]))
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.grid(alpha=0.3)
    axes.legend()
    figures.save(figure, path, dpi=120)
