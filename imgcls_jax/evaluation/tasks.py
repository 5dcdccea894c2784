"""The figures of tasks other than one class per image: several labels per image, or numbers to predict.

All are computed on the host from the outputs for all images of a split. mAP, F1, MAE, RMSE and R² are scikit-learn's.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped, UInt8

from imgcls_jax.config.optim import Task
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import ranking

DIRECTIONS: dict[Task, dict[str, bool]] = {
    "classes": {"loss": False, "top1": True, "top5": True},
    "labels": {"loss": False, "map": True, "f1_micro": True, "f1_macro": True, "exact_match": True},
    "numbers": {"loss": False, "mae": False, "rmse": False, "r2": True},
}
"""The figures that every evaluation of a task gives, and whether the highest value of each is the best."""
NAMES: dict[Task, str] = {
    "classes": "one class per image",
    "labels": "several labels per image",
    "numbers": "numbers to predict",
}
"""How messages call each task."""
EVEN = 0.5
"""The probability from which on a label is predicted where no thresholds are tuned."""


class LabelRow(TypedDict):
    """How well one label is predicted, in [0, 1]; NaN where there is no such image."""

    label: str
    images: int
    """Images that have it."""
    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float


class NumberRow(TypedDict):
    """How well one number is predicted, in its own unit."""

    number: str
    mae: float
    rmse: float
    r2: float
    """Share of the variance that is explained; NaN where all true values are the same."""


def of_labels(labels: np.ndarray) -> Task:
    """Tell the task that a data set's labels are for: by their shape and dtype."""
    if labels.ndim == 1:
        return "classes"
    return "numbers" if np.issubdtype(labels.dtype, np.floating) else "labels"


def need_classes(task: Task, what: str) -> None:
    """Raise UserError, in one sentence, where something that compares classes is asked of another task."""
    if task != "classes":
        figures = ", ".join(name for name in DIRECTIONS[task] if name != "loss")
        raise UserError(
            f"{what} is for one class per image, and this is a task of {NAMES[task]}: its figures are {figures}, which "
            "`imgcls evaluate` gives"
        )


def figures(logits: Float[np.ndarray, "n k"], labels: Shaped[np.ndarray, "n k"]) -> dict[str, float]:
    """Compute the figures of a split by the names in `DIRECTIONS`; labels are predicted from a probability of 0.5 on.

    They are NaN where an output is not finite.
    """
    task = of_labels(labels)
    if not np.isfinite(logits).all():
        return {name: float("nan") for name in DIRECTIONS[task] if name != "loss"}
    if task == "numbers":
        rows = of_numbers(logits, labels, [""] * labels.shape[1])
        return {name: float(np.mean([row[name] for row in rows])) for name in ("mae", "rmse", "r2")}  # type: ignore[literal-required]
    positive = labels.astype(bool)
    areas = average_precisions(logits, positive)
    return {"map": mean(areas), **at(sigmoid(logits), positive, [EVEN] * labels.shape[1])}


# ---- several labels per image ---------------------------------------------------------------------------------------


def sigmoid(logits: Float[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """Compute the probability of each label."""
    from scipy.special import expit

    return expit(logits.astype(np.float64))


def average_precisions(
    logits: Float[np.ndarray, "n k"], positive: Bool[np.ndarray, "n k"]
) -> Float64[np.ndarray, " k"]:
    """Compute the average precision of each label; NaN for one that no image has."""
    return np.array(
        [
            ranking.average_precision(score, truth)[0] if truth.any() else np.nan
            for score, truth in zip(logits.astype(np.float64).T, positive.T, strict=True)
        ]
    )


def at(
    probabilities: Float64[np.ndarray, "n k"], positive: Bool[np.ndarray, "n k"], thresholds: Sequence[float]
) -> dict[str, float]:
    """Compute "f1_micro", "f1_macro" (labels that are neither there nor predicted count 0, as in scikit-learn) and
    "exact_match", the share of images whose labels are all right, at a threshold per label."""
    named = probabilities >= np.asarray(thresholds)
    hits, both = (named & positive).sum(0), named.sum(0) + positive.sum(0)
    return {
        "f1_micro": float(2 * hits.sum() / max(both.sum(), 1)),
        "f1_macro": float((2 * hits / np.maximum(both, 1)).mean()),
        "exact_match": float((named == positive).all(1).mean()),
    }


def tune(probabilities: Float64[np.ndarray, "n k"], positive: Bool[np.ndarray, "n k"]) -> list[float]:
    """Find for each label the threshold of the highest F1 on these images.

    It lies in the middle between the least probability that is above it and the greatest one below; of equal F1 the
    highest threshold is taken. A label that no image has keeps 0.5.
    """
    return [_best(score, truth) for score, truth in zip(probabilities.T, positive.T, strict=True)]


def _best(score: Float64[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    if not truth.any():
        return EVEN
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(score) + 1) + truth.sum())
    last = np.append(ranked[1:] < ranked[:-1], True)  # images of one score are named together
    place = int(np.argmax(np.where(last, f1, -1)))
    below = ranked[place + 1] if place + 1 < len(ranked) else 0.0
    middle = (ranked[place] + below) / 2
    return float(middle if middle > below else ranked[place])


def rows(
    logits: Float[np.ndarray, "n k"],
    labels: Shaped[np.ndarray, "n k"],
    names: Sequence[str],
    thresholds: Sequence[float],
) -> list[dict[str, Any]]:
    """Compute a row for each label, at its threshold, or for each number."""
    found: Any = (
        label_rows(logits, labels, names, thresholds)
        if of_labels(labels) == "labels"
        else of_numbers(logits, labels, names)
    )
    return found


def label_rows(
    logits: Float[np.ndarray, "n k"],
    labels: UInt8[np.ndarray, "n k"],
    names: Sequence[str],
    thresholds: Sequence[float],
) -> list[LabelRow]:
    """Compute how well each label is predicted at its threshold."""
    positive, named = labels.astype(bool), sigmoid(logits) >= np.asarray(thresholds)
    hits, areas = (named & positive).sum(0), average_precisions(logits, positive)
    return [
        {
            "label": name,
            "images": int(there),
            "threshold": float(thresholds[k]),
            "precision": _share(hits[k], called),
            "recall": _share(hits[k], there),
            "f1": _share(2 * hits[k], called + there),
            "average_precision": float(areas[k]),
        }
        for k, (name, there, called) in enumerate(
            zip(names, positive.sum(0).tolist(), named.sum(0).tolist(), strict=True)
        )
    ]


# ---- numbers --------------------------------------------------------------------------------------------------------


def of_numbers(
    values: Float[np.ndarray, "n k"], truth: Float[np.ndarray, "n k"], names: Sequence[str]
) -> list[NumberRow]:
    """Compute how well each number is predicted."""
    errors = values.astype(np.float64) - truth
    spread = ((truth - truth.astype(np.float64).mean(0)) ** 2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = np.where(spread > 0, 1 - (errors**2).sum(0) / spread, np.nan)
    mae, rmse = abs(errors).mean(0), np.sqrt((errors**2).mean(0))
    return [
        {"number": name, "mae": float(mae[k]), "rmse": float(rmse[k]), "r2": float(explained[k])}
        for k, name in enumerate(names)
    ]


def mean(values: Float64[np.ndarray, " k"]) -> float:
    """Compute the mean of the values that there are; NaN of none."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")
