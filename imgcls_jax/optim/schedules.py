"""Learning rates over time, equal to torch's schedulers.

Every shape is computed once, on the host and in float64, into a table of float32 rates: one per epoch, or one per step.
The jitted step only looks its entry up. So rates equal torch's (Python floats) to half a float32 ulp, over any length
of training; closed forms in float32 inside the step would lose 1e-6 of the peak at cosine's foot, and more where
`step` times `pi` is large. A million steps are 4 MB.
"""

import dataclasses
import math
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int
from pydantic import AfterValidator, Field

from imgcls_jax.config.optim import Epochs, NonNegative, Positive, Schedule, Shape
from imgcls_jax.errors import UserError

Rates = Float64[np.ndarray, " entries"]


@dataclasses.dataclass(frozen=True, eq=False)
class LearningRate:
    """The learning rate of every optimizer step. Call it inside `jit` with the step, or outside with an int."""

    table: Float32[np.ndarray | Array, " entries"]
    """The rates in their order."""
    steps_per_entry: int
    """1, or the steps of an epoch where the rate changes once per epoch."""

    def __call__(self, step: Int[Array, ""] | int) -> Float[Array, ""]:
        """Look up the float32 rate of a step, counted from 0. After the end it stays at the last rate."""
        return jnp.take(jnp.asarray(self.table), jnp.asarray(step) // self.steps_per_entry, mode="clip")

    def at(self, step: int) -> float:
        """Look up the same on the host, for logs and plots."""
        return float(self.table[min(step // self.steps_per_entry, len(self.table) - 1)])


def build(schedule: Schedule, *, steps_per_epoch: int, epochs: int) -> LearningRate:
    """Compute the rates of a whole training of `epochs` epochs of `steps_per_epoch` optimizer steps each.

    With `per="epoch"` the entries are those of torch's schedulers stepped at each epoch's end; with `per="step"`, of
    the same schedulers stepped after each batch with every length in steps (a factor per epoch becomes its root).
    What `Shape.adapt` gives comes on top.

    Raises:
      UserError: a one-cycle rise is shorter than one entry, or a shape of the user's gives no rates.
    """
    schedule = fit(schedule, epochs)
    unit = steps_per_epoch if schedule.per == "step" else 1
    warmup = schedule.warmup_epochs * unit
    rising = np.arange(warmup) / max(warmup, 1)
    start = schedule.warmup_from
    rates = np.concatenate([
        schedule.peak * (start + (1 - start) * rising),
        _rates(schedule.shape, schedule.peak, entries=epochs * unit - warmup, unit=unit),
    ])  # fmt: skip
    return LearningRate(rates.astype(np.float32), steps_per_epoch // unit)


def fit(schedule: Schedule, epochs: int) -> Schedule:
    """Shorten a warm-up that would take all of a training of `epochs` epochs: the last one remains for the shape."""
    return dataclasses.replace(schedule, warmup_epochs=min(schedule.warmup_epochs, epochs - 1))


def notes(schedule: Schedule, epochs: int) -> list[str]:
    """Say in a sentence each where `fit` departs from the settings."""
    fitted = fit(schedule, epochs)
    if fitted == schedule:
        return []
    return [
        f"optim.schedule.warmup_epochs = {schedule.warmup_epochs} is shortened to {fitted.warmup_epochs}, because "
        f"training has only {epochs} epoch{'s' * (epochs != 1)}"
    ]


def _rates(shape: Shape, peak: float, *, entries: int, unit: int) -> Rates:
    rates = np.asarray(shape.rates(peak, entries=entries, unit=unit))
    name = type(shape).__name__
    if rates.shape != (entries,) or rates.dtype.kind not in "fiu":
        raise UserError(
            f"{name}.rates must return {entries} numbers, one per entry, not {rates.dtype} {list(rates.shape)}"
        )
    wrong = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0)))
    if len(wrong):
        raise UserError(
            f"{name}.rates gives the learning rate {rates[wrong[0]]:g} at entry {wrong[0]}: it must be finite and not "
            "negative"
        )
    return rates.astype(np.float64)


def refuse_above_peak(least: float, schedule: Schedule) -> None:
    """Raise UserError where a shape's least rate is above the schedule's peak."""
    if least > schedule.peak:
        raise UserError(
            f"the least learning rate of optim.schedule.shape is {least:g}, above optim.schedule.peak "
            f"{schedule.peak:g}: lower it"
        )


def _increasing(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if list(epochs) != sorted(set(epochs)):
        raise ValueError(f"epochs must be increasing, not {list(epochs)}")
    return epochs


def _cosine(start: float | Rates, end: float, share: Rates) -> Rates:
    """Half a cosine wave from `start` at share 0 to `end` at share 1."""
    return end + (start - end) * (1 + np.cos(math.pi * share)) / 2


# ---- shapes ---------------------------------------------------------------------------------------------------------


class Constant(Shape):
    """The peak, to the end."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        return np.full(entries, peak)


class Step(Shape):
    """torch's StepLR."""

    every: Epochs
    """Epochs between two changes."""
    factor: Positive
    """Factor at each change."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        return peak * self.factor ** (np.arange(entries) // (self.every * unit))


class MultiStep(Shape):
    """torch's MultiStepLR."""

    at: Annotated[tuple[Epochs, ...], Field(min_length=1), AfterValidator(_increasing)]
    """Epochs of the changes, counted from the warm-up's end; increasing."""
    factor: Positive
    """Factor at each change."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        return peak * self.factor ** np.searchsorted(np.array(self.at) * unit, np.arange(entries), side="right")


class Exponential(Shape):
    """torch's ExponentialLR."""

    factor: Positive
    """Factor per epoch."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        return peak * self.factor ** (np.arange(entries) / unit)


class Polynomial(Shape):
    """torch's PolynomialLR, to zero at `epochs`; power 1 is linear."""

    power: Positive = 1.0
    """Exponent of the share of the way that is left."""
    epochs: Epochs | None = None
    """Length, epochs from the warm-up's end; None: to the end of training."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        length = entries if self.epochs is None else self.epochs * unit
        return peak * (1 - np.minimum(np.arange(entries), length) / length) ** self.power


class Cosine(Shape):
    """torch's CosineAnnealingLR."""

    epochs: Epochs | None = None
    """Half a period (T_max), epochs; None: to the end of training. As in torch, the rate rises again after it."""
    final: NonNegative = 0.0
    """Least learning rate."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        length = entries if self.epochs is None else self.epochs * unit
        return _cosine(peak, self.final, np.arange(entries) / length)

    def check(self, schedule: Schedule, *, epochs: int) -> None:
        refuse_above_peak(self.final, schedule)


class CosineRestarts(Shape):
    """torch's CosineAnnealingWarmRestarts (SGDR, Loshchilov & Hutter 2017)."""

    first: Epochs
    """Length of the first cycle (T_0), epochs."""
    multiply: Annotated[int, Field(ge=1)] = 1
    """Length of each cycle relative to the one before (T_mult)."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Peak of each cycle relative to the one before."""
    final: NonNegative = 0.0
    """Least learning rate."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        t = np.arange(entries)
        lengths = self.first * unit * self.multiply ** np.arange(self._cycles(entries, unit))
        starts = np.cumsum(lengths) - lengths
        cycle = np.searchsorted(starts, t, side="right") - 1
        # A peak that decayed below the least rate would make the cycle rise.
        peaks = np.maximum(peak * self.decay**cycle, self.final)
        return _cosine(peaks, self.final, (t - starts[cycle]) / lengths[cycle])

    def check(self, schedule: Schedule, *, epochs: int) -> None:
        refuse_above_peak(self.final, schedule)

    def _cycles(self, entries: int, unit: int) -> int:
        """How many cycles, the last perhaps unfinished, fill `entries`."""
        cycles, length, end = 1, self.first * unit, self.first * unit
        while end < entries:
            length *= self.multiply
            end += length
            cycles += 1
        return cycles


class OneCycle(Shape):
    """torch's OneCycleLR, over the whole training, cosine annealing; it brings its own warm-up."""

    warmup_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the training spent rising (pct_start)."""
    initial_division: Positive = 25.0
    """The peak divided by the first learning rate."""
    final_division: Positive = 1e4
    """The first learning rate divided by the last one."""

    def rates(self, peak: float, *, entries: int, unit: int) -> Rates:
        # torch counts a total of `entries` rates, the last of them at entries − 1.
        self._check_rise(entries)
        t = np.arange(entries)
        top = self.warmup_share * entries - 1
        first = peak / self.initial_division
        last = first / self.final_division
        rise = _cosine(first, peak, t / top)
        fall = _cosine(peak, last, (t - top) / (entries - 1 - top))
        return np.where(t <= top, rise, fall)

    def check(self, schedule: Schedule, *, epochs: int) -> None:
        if schedule.warmup_epochs:
            raise UserError(
                f"optim.schedule.warmup_epochs is {schedule.warmup_epochs}, but OneCycle brings its own warm-up: set "
                "it to 0 and use optim.schedule.shape.warmup_share"
            )
        if schedule.per == "epoch":
            self._check_rise(epochs)

    def _check_rise(self, entries: int) -> None:
        if self.warmup_share * entries <= 1:
            raise UserError(
                f"optim.schedule.shape.warmup_share is {self.warmup_share:g}, of {entries} learning rates less than "
                'two: make it larger, train longer, or set optim.schedule.per="step"'
            )
