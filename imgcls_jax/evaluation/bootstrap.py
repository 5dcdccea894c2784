"""Confidence intervals of the figures of a split, over images.

Percentile bootstrap: images are drawn with replacement a thousand times, each time as many as there are; every figure
is computed of each draw, and the middle 95 % of its values are the interval. All figures but two come from counts and
sums, so that a thousand draws are a few passes over arrays. Area under the ROC curve and average precision would need a
sort per draw and class: their interval is ±1.96 standard errors on the logit scale, the error being the one that the
bootstrap converges to (see `ranking`).

The expected calibration error of a few images is too high, and that of a draw higher still, so that the middle of the
draws would miss the truth. Its interval is reflected at the value, which takes the bias off, and reaches down to 0
where a perfectly calibrated network would show a value so high by chance.

The intervals say what other images of the same kind would give for the same network. What another seed would give is
another question: see `imgcls ablate`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from imgcls_jax.evaluation import scores
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.evaluation.scores import Scores

RESAMPLES = 1000
LEVEL = 0.95
Z = 1.959963984540054
"""Standard errors on each side of a 95 % interval."""
# Draws are made in chunks of about this many images, which bounds memory.
_CHUNK = 4_000_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Replicates:
    """The figures of each draw, and the influences of images for those that are not drawn."""

    overall: dict[str, Float64[np.ndarray, " resamples"]]
    per_class: dict[str, Float64[np.ndarray, "resamples classes"]]
    influence: dict[str, Float64[np.ndarray, " n"]]
    """Of each image on "auroc" and "average_precision", means over classes."""
    errors: dict[str, Float64[np.ndarray, " classes"]]
    """Standard error of the two of each class; NaN where there is none."""
    calibrated: Float64[np.ndarray, " resamples"]
    """Expected calibration errors of a perfectly calibrated network with the same confidences."""


def draws(count: int, resamples: int, seed: int) -> Iterator[Int64[np.ndarray, "draws n"]]:
    """Draw images with replacement, `count` of `count`, some draws at a time; the same for the same arguments."""
    random = np.random.default_rng(seed)
    size = max(_CHUNK // count, 1)
    for start in range(0, resamples, size):
        yield random.integers(0, count, (min(size, resamples - start), count), dtype=np.int32)


def replicates(
    predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0, ranked: bool = True
) -> Replicates:
    """Compute every figure of every draw.

    Args:
      predictions: with finite outputs.
      resamples: number of draws.
      seed: of the draws; two models that are given the same one, and the same images, are drawn alike.
      ranked: compute the influences too, which take a sort per class.
    """
    labels, classes = predictions.labels.astype(np.int64), predictions.classes
    # Images that share label and prediction count alike: draws are counted by these kinds.
    kinds, kind = np.unique(labels * classes + predictions.predicted, return_inverse=True)
    truth, named = np.divmod(kinds, classes)
    confidence, right = scores.confidence(predictions)
    bins, gap = scores.bin_of(confidence), right - confidence
    means = {"log_loss": scores.log_losses(predictions), "brier": scores.brier(predictions)}
    parts: list[dict[str, np.ndarray]] = []
    for rows in draws(len(predictions), resamples, seed):
        counts = _sums(kind, rows, len(kinds))
        found = _of_counts(counts, truth, named, classes)
        found |= {name: values[rows].mean(axis=1) for name, values in means.items()}
        found["ece"] = np.abs(_sums(bins, rows, scores.CALIBRATION_BINS, gap)).sum(axis=1) / len(predictions)
        parts.append(found)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    influence, errors = (predictions.ranked.influence, predictions.ranked.errors) if ranked else ({}, {})
    return Replicates(
        {name: values for name, values in joined.items() if values.ndim == 1},
        {name.removeprefix("class_"): values for name, values in joined.items() if values.ndim == 2},
        influence,
        errors,
        _calibrated(confidence, resamples, seed),
    )


def _calibrated(confidence: Float64[np.ndarray, " n"], resamples: int, seed: int) -> Float64[np.ndarray, " resamples"]:
    """Expected calibration errors where each image is right with the probability that is its confidence."""
    random, bins, count = np.random.default_rng([seed, 1]), scores.bin_of(confidence), len(confidence)
    values: list[float] = []
    for _ in range(resamples):
        gaps = np.bincount(bins, weights=(random.random(count) < confidence) - confidence)
        values.append(np.abs(gaps).sum() / count)
    return np.array(values)


def _sums(
    group: Int64[np.ndarray, " n"], rows: np.ndarray, groups: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sum weights, or count images, by group in each draw: [draws, groups]."""
    places = group[rows] + groups * np.arange(len(rows))[:, None]
    drawn = None if weights is None else weights[rows].ravel()
    return np.bincount(places.ravel(), weights=drawn, minlength=groups * len(rows)).reshape(len(rows), groups)


def _of_counts(counts: np.ndarray, truth: np.ndarray, named: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """The figures that follow from how many images of each label have each prediction; as `scores.of`."""
    hit = truth == named
    right, predicted, labeled = (
        _by_class(counts[:, chosen], label[chosen], classes)
        for chosen, label in ((hit, truth), (slice(None), named), (slice(None), truth))
    )
    total, there, seen = counts.sum(axis=1), labeled > 0, (labeled + predicted) > 0
    recall, precision = right / np.maximum(labeled, 1), right / np.maximum(predicted, 1)
    f1 = 2 * right / np.maximum(labeled + predicted, 1)
    return {
        "accuracy": right.sum(axis=1) / total,
        "balanced_accuracy": recall.sum(axis=1) / there.sum(axis=1),
        "precision": precision.sum(axis=1) / seen.sum(axis=1),
        "recall": recall.sum(axis=1) / seen.sum(axis=1),
        "f1": f1.sum(axis=1) / seen.sum(axis=1),
        "weighted_f1": (f1 * labeled).sum(axis=1) / total,
        "class_precision": np.where(seen, precision, np.nan),
        "class_recall": np.where(there, recall, np.nan),
        "class_f1": np.where(seen, f1, np.nan),
    }


def _by_class(counts: np.ndarray, label: np.ndarray, classes: int) -> Float64[np.ndarray, "draws classes"]:
    from scipy import sparse

    gather = sparse.csr_array((np.ones(len(label)), (np.arange(len(label)), label)), shape=(len(label), classes))
    return np.asarray(counts.astype(np.float64) @ gather)


def intervals(found: Scores, drawn: Replicates) -> dict[str, Interval]:
    """Compute the interval of each overall figure, [lower, upper]."""
    result = {name: percentile(values) for name, values in drawn.overall.items()}
    result["ece"] = _of_calibration(found.overall["ece"], drawn)
    for name, influence in drawn.influence.items():
        low, high = on_logit_scale(np.asarray(found.overall[name]), np.asarray(np.sqrt((influence**2).sum())))
        result[name] = float(low), float(high)
    return {name: result[name] for name in found.overall if name in result}


def _of_calibration(value: float, drawn: Replicates) -> Interval:
    low, high = percentile(drawn.overall["ece"])
    by_chance = value <= percentile(drawn.calibrated)[1]
    return 0.0 if by_chance else max(2 * value - high, 0.0), max(2 * value - low, value)


def class_intervals(found: Scores, drawn: Replicates) -> dict[str, Float64[np.ndarray, "classes 2"]]:
    """Compute the interval of each class's figures; NaN where there is none."""
    result = {}
    for name, values in found.per_class.items():
        if name in drawn.errors:
            result[name] = np.stack(on_logit_scale(values, drawn.errors[name]), axis=1)
        else:
            result[name] = _class_percentiles(drawn.per_class[name], values)
    return result


def _class_percentiles(drawn: np.ndarray, values: np.ndarray) -> Float64[np.ndarray, "classes 2"]:
    edges = np.full((len(values), 2), np.nan)
    there = ~np.isnan(values)
    if there.any():
        edges[there] = np.nanpercentile(drawn[:, there], _edges(), axis=0).T
    return edges


def percentile(values: Float64[np.ndarray, " resamples"]) -> Interval:
    """The middle 95 % of the values."""
    low, high = np.percentile(values, _edges())
    return float(low), float(high)


def _edges() -> tuple[float, float]:
    return 50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)


def on_logit_scale(value: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a share from its standard error, which stays within [0, 1]; a share of 0 or 1 is its own."""
    inside = np.clip(value, 1e-12, 1 - 1e-12)
    middle, step = np.log(inside / (1 - inside)), Z * error / (inside * (1 - inside))
    inner = (value > 0) & (value < 1)
    with np.errstate(over="ignore"):
        low, high = (1 / (1 + np.exp(-(middle + sign * np.where(inner, step, 0)))) for sign in (-1, 1))
    return np.where(inner, low, value), np.where(inner, high, value)
