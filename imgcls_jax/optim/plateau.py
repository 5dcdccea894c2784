"""torch's ReduceLROnPlateau: a factor on the learning rate that changes after an epoch's validation."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from imgcls_jax.config.optim import NonNegative, Schedule, Shape
from imgcls_jax.optim.schedules import refuse_above_peak


@dataclasses.dataclass(frozen=True)
class Plateau:
    """What has been seen so far."""

    rate: float
    """The learning rate at the end of the warm-up, with all reductions so far; at first the schedule's peak."""
    best: float | None = None
    """Best value so far."""
    bad_epochs: int = 0
    """Epochs since `best`, or since the last reduction."""


class ReduceOnPlateau(Shape):
    """torch's ReduceLROnPlateau (threshold_mode="rel", cooldown=0) on a validation metric."""

    metric: str = "loss"
    """Name of the validation metric: "loss", "top1", "top5", or one of `Config.metrics`."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of each reduction."""
    patience: Annotated[int, Field(ge=0)] = 10
    """Epochs without improvement before a reduction."""
    threshold: NonNegative = 1e-4
    """Least relative improvement that counts."""
    minimum: NonNegative = 0.0
    """Least learning rate."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Float64[np.ndarray, " entries"]:
        return np.full(entries, peak)

    def watched(self) -> str | None:
        return self.metric

    def adapt(
        self,
        history: Sequence[Mapping[str, Any]],
        *,
        schedule: Schedule,
        higher_is_better: Mapping[str, bool],
    ) -> float:
        """Replay the reductions. Epochs of the warm-up do not count, and NaN is no improvement."""
        seen = Plateau(rate=schedule.peak)
        for record in history:
            if record["epoch"] >= schedule.warmup_epochs:
                value = record["validation"][self.metric]
                seen = self.observe(seen, value, higher_is_better=higher_is_better[self.metric])
        return seen.rate / schedule.peak

    def observe(self, seen: Plateau, value: float, *, higher_is_better: bool) -> Plateau:
        """Return what has been seen after one more epoch. As in torch, a reduction by less than 1e-8 is not made."""
        if self._improves(value, seen.best, higher_is_better):
            return dataclasses.replace(seen, best=value, bad_epochs=0)
        if seen.bad_epochs < self.patience:
            return dataclasses.replace(seen, bad_epochs=seen.bad_epochs + 1)
        reduced = max(seen.rate * self.factor, self.minimum)
        rate = reduced if seen.rate - reduced > 1e-8 else seen.rate
        return dataclasses.replace(seen, rate=rate, bad_epochs=0)

    def check(self, schedule: Schedule, *, epochs: int) -> None:
        refuse_above_peak(self.minimum, schedule)

    def _improves(self, value: float, best: float | None, higher_is_better: bool) -> bool:
        if best is None:
            return not math.isnan(value)
        if higher_is_better:
            return value > best * (1 + self.threshold)
        return value < best * (1 - self.threshold)
