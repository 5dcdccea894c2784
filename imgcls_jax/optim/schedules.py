"""Learning rates over time, equal to torch's schedulers.

Every shape is computed once, on the host and in float64, into a table of float32 rates: one an epoch, or one a step.
The jitted step only looks its entry up. So rates equal torch's (Python floats) to half a float32 ulp, over any length
of training; closed forms in float32 inside the step would lose 1e-6 of the peak at cosine's foot, and more where
`step` times `pi` is large. A million steps are 4 MB.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imgcls_jax.config import optim as config
from imgcls_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class LearningRate:
    """The learning rate of every optimiser step. Call it inside `jit` with the step, or outside with an int."""

    table: np.ndarray
    """float32 [entries]."""
    steps_per_entry: int
    """1, or the steps of an epoch where the rate changes once an epoch."""

    def __call__(self, step: Int[Array, ""] | int) -> Float[Array, ""]:
        """The float32 rate of the optimiser step `step`, counted from 0. After the end it stays at the last rate."""
        return jnp.take(jnp.asarray(self.table), jnp.asarray(step) // self.steps_per_entry, mode="clip")

    def at(self, step: int) -> float:
        """The same on the host, for logs and plots."""
        return float(self.table[min(step // self.steps_per_entry, len(self.table) - 1)])


def build(schedule: config.Schedule, *, steps_per_epoch: int, epochs: int) -> LearningRate:
    """The rates of a whole training of `epochs` epochs of `steps_per_epoch` optimiser steps each.

    With `per="epoch"` the entries are those of torch's schedulers stepped at each epoch's end; with `per="step"`, of
    the same schedulers stepped after each batch with every length in steps (a factor an epoch becomes its root).
    `ReduceOnPlateau` is flat here: `plateau.observe` gives the factor to multiply with.

    Raises:
      UserError: the warm-up leaves no time for the shape, or a one-cycle rise is shorter than one entry.
    """
    _check_warmup(schedule, epochs)
    unit = steps_per_epoch if schedule.per == "step" else 1
    warmup = schedule.warmup_epochs * unit
    rising = np.arange(warmup) / max(warmup, 1)
    start = schedule.warmup_from
    rates = np.concatenate([
        schedule.peak * (start + (1 - start) * rising),
        _shape(schedule.shape, schedule.peak, entries=epochs * unit - warmup, unit=unit),
    ])  # fmt: skip
    return LearningRate(rates.astype(np.float32), steps_per_epoch // unit)


def _shape(shape: config.Shape, peak: float, *, entries: int, unit: int) -> np.ndarray:
    """float64 rates [entries] of a shape that starts at entry 0; `unit` is the number of entries an epoch."""
    t = np.arange(entries)
    match shape:
        case config.Constant() | config.ReduceOnPlateau():
            return np.full(entries, peak)
        case config.Step():
            return peak * shape.factor ** (t // (shape.every * unit))
        case config.MultiStep():
            return peak * shape.factor ** np.searchsorted(np.array(shape.at) * unit, t, side="right")
        case config.Exponential():
            return peak * shape.factor ** (t / unit)
        case config.Polynomial():
            length = entries if shape.epochs is None else shape.epochs * unit
            return peak * (1 - np.minimum(t, length) / length) ** shape.power
        case config.Cosine():
            length = entries if shape.epochs is None else shape.epochs * unit
            return _cosine(peak, shape.final, t / length)
        case config.CosineRestarts():
            lengths = shape.first * unit * shape.multiply ** np.arange(_cycles(shape, entries, unit))
            starts = np.cumsum(lengths) - lengths
            cycle = np.searchsorted(starts, t, side="right") - 1
            # A peak that decayed below the least rate would make the cycle rise.
            peaks = np.maximum(peak * shape.decay**cycle, shape.final)
            return _cosine(peaks, shape.final, (t - starts[cycle]) / lengths[cycle])
        case config.OneCycle():
            # torch counts a total of `entries` rates, the last of them at entries − 1.
            _check_rise(shape, entries)
            top = shape.warmup_share * entries - 1
            first = peak / shape.initial_division
            last = first / shape.final_division
            rise = _cosine(first, peak, t / top)
            fall = _cosine(peak, last, (t - top) / (entries - 1 - top))
            return np.where(t <= top, rise, fall)


def _cosine(start: float | np.ndarray, end: float, share: np.ndarray) -> np.ndarray:
    """Half a cosine wave from `start` at share 0 to `end` at share 1."""
    return end + (start - end) * (1 + np.cos(math.pi * share)) / 2


def _cycles(shape: config.CosineRestarts, entries: int, unit: int) -> int:
    """How many cycles, the last perhaps unfinished, fill `entries`."""
    cycles, length, end = 1, shape.first * unit, shape.first * unit
    while end < entries:
        length *= shape.multiply
        end += length
        cycles += 1
    return cycles


def check(optim: config.Optim, epochs: int) -> None:
    """Raises UserError for the first combination in `optim` that cannot mean what was meant."""
    _check_schedule(optim.schedule, epochs)
    _check_optimizer(optim)
    if optim.ema is not None and optim.swa is not None:
        raise UserError("optim.ema and optim.swa both replace the evaluated parameters: set one of them to None")
    if optim.swa is not None and optim.swa.from_epoch >= epochs:
        raise UserError(
            f"optim.swa.from_epoch is {optim.swa.from_epoch}, but the last epoch is {epochs - 1}, so nothing would be "
            "averaged: lower it or train longer"
        )


def _check_schedule(schedule: config.Schedule, epochs: int) -> None:
    shape = schedule.shape
    where = "optim.schedule"
    _check_warmup(schedule, epochs)
    if isinstance(shape, config.OneCycle) and schedule.warmup_epochs:
        raise UserError(
            f"{where}.warmup_epochs is {schedule.warmup_epochs}, but one_cycle brings its own warm-up: set it to 0 and "
            f"use {where}.shape.warmup_share"
        )
    final = getattr(shape, "final", getattr(shape, "minimum", 0.0))
    if final > schedule.peak:
        raise UserError(
            f"the least learning rate of {where}.shape is {final:g}, above {where}.peak {schedule.peak:g}: lower it"
        )
    if isinstance(shape, config.MultiStep) and list(shape.at) != sorted(set(shape.at)):
        raise UserError(f"{where}.shape.at must be increasing epochs, not {list(shape.at)}")
    if isinstance(shape, config.OneCycle) and schedule.per == "epoch":
        _check_rise(shape, epochs)


def _check_optimizer(optim: config.Optim) -> None:
    optimizer = optim.optimizer
    for where, part in (("optim.optimizer", optimizer), ("optim.optimizer.rest", getattr(optimizer, "rest", None))):
        if isinstance(part, config.SGD) and part.nesterov and not part.momentum:
            raise UserError(f"{where}.nesterov needs a momentum above 0: set {where}.momentum")
    if not isinstance(optimizer, config.ScheduleFreeAdamW):
        return
    if not isinstance(optim.schedule.shape, config.Constant):
        raise UserError(
            f"schedule_free_adamw replaces the schedule, but optim.schedule.shape is {optim.schedule.shape.shape}: set "
            "it to Constant(), with warm-up if you like"
        )
    if not optimizer.b1:
        raise UserError("optim.optimizer.b1 of schedule_free_adamw must be above 0")
    for name in ("ema", "swa", "lookahead"):
        if getattr(optim, name) is not None:
            raise UserError(f"schedule_free_adamw averages the parameters itself: set optim.{name} to None")


def _check_warmup(schedule: config.Schedule, epochs: int) -> None:
    if schedule.warmup_epochs >= epochs:
        raise UserError(
            f"optim.schedule.warmup_epochs is {schedule.warmup_epochs}, but training has only {epochs} epoch(s): "
            "shorten the warm-up or train longer"
        )


def _check_rise(shape: config.OneCycle, entries: int) -> None:
    if shape.warmup_share * entries <= 1:
        raise UserError(
            f"optim.schedule.shape.warmup_share is {shape.warmup_share:g}, of {entries} learning rates less than two: "
            'make it larger, train longer, or set optim.schedule.per="step"'
        )
