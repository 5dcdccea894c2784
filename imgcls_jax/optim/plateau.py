"""torch's ReduceLROnPlateau: a factor on the learning rate that the host changes after an epoch's validation."""

import dataclasses
import math

from imgcls_jax.config import optim as config


@dataclasses.dataclass(frozen=True)
class Plateau:
    """What has been seen so far; JSON in the checkpoint by `dataclasses.asdict`, and back by `Plateau(**saved)`."""

    rate: float
    """The learning rate that the warm-up leads to now; at first the schedule's peak."""
    best: float | None = None
    """Best metric so far."""
    bad_epochs: int = 0
    """Epochs since `best`, or since the last reduction."""


def scale(state: Plateau, schedule: config.Schedule) -> float:
    """The factor on the schedule's rate, in (0, 1]; the step takes it as a traced scalar, so it never recompiles."""
    return state.rate / schedule.peak


def observe(state: Plateau, schedule: config.Schedule, metric: float, *, epoch: int) -> Plateau:
    """The state after the validation at the end of `epoch` (counted from 0) gave `metric`.

    `metric` is the validation loss (lower is better) or top-1 accuracy (higher), as `schedule.shape.metric` says; NaN
    counts as no improvement. Epochs of the warm-up are not counted. As in torch (threshold_mode="rel", cooldown=0), a
    reduction by less than 1e-8 is not made.
    """
    shape = schedule.shape
    if epoch < schedule.warmup_epochs:
        return state
    if _better(metric, state.best, shape):
        return dataclasses.replace(state, best=metric, bad_epochs=0)
    if state.bad_epochs < shape.patience:
        return dataclasses.replace(state, bad_epochs=state.bad_epochs + 1)
    reduced = max(state.rate * shape.factor, shape.minimum)
    rate = reduced if state.rate - reduced > 1e-8 else state.rate
    return dataclasses.replace(state, rate=rate, bad_epochs=0)


def _better(metric: float, best: float | None, shape: config.ReduceOnPlateau) -> bool:
    if best is None:
        return not math.isnan(metric)
    if shape.metric == "loss":
        return metric < best * (1 - shape.threshold)
    return metric > best * (1 + shape.threshold)
