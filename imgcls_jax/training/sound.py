"""Find a checkpoint from which a run that is no longer finite can go on.

The loss of a step is that of the parameters before it, so that a checkpoint may hold parameters that are finite and yet
ruined. Only checkpoints whose steps the config determines are gone back to, so that a run that was interrupted and
saved elsewhere ends like one that was not.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from imgcls_jax.record.checkpoint import Checkpoints, DamagedCheckpoint
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.progress import Progress
from imgcls_jax.training.resume import restore, resume_point
from imgcls_jax.training.state import TrainState

_START = -1


def anchors(old: list[int], step: int, steps_per_epoch: int) -> list[int]:
    """Return the steps of the checkpoints to which recovery may return, once there is one of `step`: it, and the two
    newest of an epoch's end."""
    ends = [other for other in old if other % steps_per_epoch == 0]
    return [step, *ends[: 1 if step % steps_per_epoch == 0 else 2]]


def newest(
    experiment: Experiment, checkpoints: Checkpoints, progress: Progress, compiled_epoch: int
) -> tuple[int, int] | None:
    """Find the newest checkpoint from which training can go on, or the start.

    A run that has gone back before in the same epoch goes back to an epoch's end: what was saved inside the epoch may
    be the beginning of the ruin.

    Args:
      experiment: what is trained; its step may be compiled for another epoch on return.
      checkpoints: of the run; none is under way.
      progress: how far the run is.
      compiled_epoch: the epoch for which the step is compiled.

    Returns:
      The checkpoint's step, -1 for the start, and the epoch for which the step is compiled then; None where there is
      none.
    """
    again = progress.recovered_epochs[-1:] == [progress.epoch]
    ways = [step for step in progress.anchors if not again or step % experiment.steps_per_epoch == 0]
    for step in [*ways, _START]:
        is_sound, compiled_epoch = _is_sound(experiment, checkpoints, step, compiled_epoch)
        if is_sound:
            return step, compiled_epoch
    return None


def best_state(
    experiment: Experiment, checkpoints: Checkpoints, progress: Progress, tell: Callable[[str], None]
) -> tuple[TrainState, int]:
    """Restore the best epoch's state, or the last one's where that is damaged or gone; return it and the epoch."""
    best, last = progress.best, len(progress.history) - 1
    assert best is not None, "a run has at least one step"
    try:
        return checkpoints.state(progress.history[best]["step"], experiment.abstract_state(best)), best
    except DamagedCheckpoint as error:
        if best == last:
            raise
        tell(f"{error}; it was that of the best epoch, in whose place the last one is tested")
        return checkpoints.state(progress.history[last]["step"], experiment.abstract_state(last)), last


def _is_sound(experiment: Experiment, checkpoints: Checkpoints, step: int, compiled_epoch: int) -> tuple[bool, int]:
    """Whether the step after a checkpoint is finite at learning rate zero, and the epoch of the compiled step then."""
    point = None if step == _START else step
    try:
        saved = resume_point(checkpoints, point)
        state, state_epoch = restore(experiment, checkpoints, point, saved)
    except DamagedCheckpoint:
        return False, compiled_epoch
    epoch, done = saved["epoch"], saved["step"]
    if any(phase_changes(experiment, other, epoch) for other in (state_epoch, compiled_epoch)):
        state, _ = experiment.enter_phase(state, epoch, previous=state_epoch)
        compiled_epoch = epoch
    state = experiment.scale_learning_rate(state, 0.0)
    skipped, training = 0, experiment.training
    if state.loss_scale is not None:  # a step that overflows without a scale is ruined
        skipped = int(state.loss_scale.skipped)
        scale = state.loss_scale.scale
        state = state.replace(
            loss_scale=state.loss_scale._replace(scale=jax.device_put(jnp.ones_like(scale), scale.sharding))
        )
    for state, metrics, _ in training.epoch(state, epoch, done, last=done + 1):
        finite = bool(training.finite) and math.isfinite(float(metrics.loss.total))
    overflowed = state.loss_scale is not None and int(state.loss_scale.skipped) > skipped
    return finite and not overflowed, compiled_epoch


def phase_changes(experiment: Experiment, one: int, other: int) -> bool:
    """Tell whether two epochs need different compiled steps."""
    return any(experiment.phase_changes(epoch) for epoch in range(min(one, other) + 1, max(one, other) + 1))
