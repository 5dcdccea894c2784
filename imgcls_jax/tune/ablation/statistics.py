"""Compute means, paired differences and main effects over seeds, with Student's t intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from imgcls_jax.tune.ablation.factors import Cell

CONFIDENCE = 0.95
Scores = Mapping[int, float]
"""Seed → score."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its uncertainty."""

    mean: float
    std: float | None
    """Standard deviation between seeds (n − 1); None for a single seed."""
    interval: tuple[float, float] | None
    """Two-sided 95 % confidence interval of the mean by Student's t over seeds; None for a single seed."""
    count: int
    """Number of seeds."""

    def document(self) -> dict[str, Any]:
        """Return the estimate as plain values for a JSON file."""
        return {"mean": self.mean, "std": self.std, "interval_95": self.interval, "seeds": self.count}


def estimate(values: Sequence[float]) -> Estimate | None:
    """Estimate the mean of independent values; None if there are none."""
    n = len(values)
    if n == 0:
        return None
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(mean, None, None, 1)
    std = float(np.std(values, ddof=1))
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / n**0.5
    return Estimate(mean, std, (mean - half, mean + half), n)


def difference(scores: Scores, baseline: Scores) -> Estimate | None:
    """Estimate the mean difference seed by seed, over the seeds that both have."""
    return estimate([scores[seed] - baseline[seed] for seed in scores if seed in baseline])


def main_effect(scores: Mapping[Cell, Scores], factor: str) -> Estimate | None:
    """Estimate what a factor contributes on average over all combinations of the others, in a full factorial.

    Of each seed: the mean over the cells with the factor less the mean over those without it. A seed that lacks a
    cell is left out, because the two means would be over different combinations.
    """
    complete = [seed for seed in next(iter(scores.values())) if all(seed in cell for cell in scores.values())]
    effects = []
    for seed in complete:
        on, off = (
            np.mean([values[seed] for cell, values in scores.items() if (factor in cell) == present])
            for present in (True, False)
        )
        effects.append(float(on - off))
    return estimate(effects)
