"""All figures of a split with their intervals, as one document and as tables of text."""

import math
from typing import Any, TypedDict

from imgcls_jax.display import tables
from imgcls_jax.evaluation import bootstrap, scores
from imgcls_jax.evaluation.paired import Comparison
from imgcls_jax.evaluation.predictions import Predictions

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision, mean of classes",
    "recall": "recall, mean of classes",
    "f1": "F1, mean of classes",
    "weighted_f1": "F1, weighted by images",
    "auroc": "AUROC, mean of classes",
    "average_precision": "average precision, mean of classes",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
"""How each figure is called in tables."""
_NOT_SHARES = {"log_loss", "brier"}


class Estimate(TypedDict):
    """A figure with its 95 % interval; None where there is none, such as the recall of a class without images."""

    value: float | None
    low: float | None
    high: float | None


class Document(TypedDict):
    """All figures of a split, as JSON."""

    images: int
    overall: dict[str, Estimate]
    """By the names of `scores.Scores.overall`."""
    per_class: dict[str, dict[str, Any]]
    """By class: "images", and an `Estimate` by each name of `scores.PER_CLASS`."""
    most_confused: list[dict[str, Any]]
    """{"true", "predicted", "images"}, the most frequent first."""


def compute(predictions: Predictions, *, seed: int = 0) -> Document:
    """Compute every figure of a split with its bootstrap interval over images.

    Raises:
      UserError: an output is not finite.
    """
    found, drawn = scores.of(predictions), bootstrap.replicates(predictions, seed=seed)
    edges, class_edges = bootstrap.intervals(found, drawn), bootstrap.class_intervals(found, drawn)
    names = predictions.class_names
    return {
        "images": len(predictions),
        "overall": {name: _estimate(value, *edges[name]) for name, value in found.overall.items()},
        "per_class": {
            name: {
                "images": int(found.support[label]),
                **{
                    figure: _estimate(values[label], *class_edges[figure][label])
                    for figure, values in found.per_class.items()
                },
            }
            for label, name in enumerate(names)
        },
        "most_confused": [
            {"true": names[row], "predicted": names[column], "images": images}
            for row, column, images in scores.most_confused(found.confusion)
        ],
    }


def _estimate(value: float, low: float, high: float) -> Estimate:
    """JSON knows no NaN."""
    value, low, high = (None if math.isnan(x) else float(x) for x in (value, low, high))  # type: ignore[assignment]
    return {"value": value, "low": low, "high": high}


def table(document: Document) -> str:
    """Return the overall figures with their intervals as text."""
    rows = []
    for name, title in TITLES.items():
        found = document["overall"][name]
        rows.append((title, shown(name, found["value"]), interval(name, found["low"], found["high"])))
    return tables.plain(("figure", "value", "95 % interval"), rows, right=[1], indent="  ")


def shown(name: str, value: float | None, *, sign: bool = False) -> str:
    """Return a figure as text: a share in percent, a loss as a number."""
    if value is None or math.isnan(value):
        return "–"
    plus = "+" if sign else ""
    return f"{value:{plus}.4f}" if name in _NOT_SHARES else f"{100 * value:{plus}.2f} %"


def interval(name: str, low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval as text, its unit once."""
    if low is None or high is None:
        return "–"
    return f"{shown(name, low, sign=sign).removesuffix(' %')} to {shown(name, high, sign=sign)}"


def differences(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the rows (figure, difference, interval) of a comparison."""
    return [
        (title, shown(name, change, sign=True), interval(name, *edges, sign=True))
        for name, title in TITLES.items()
        if name in found.differences
        for change, edges in [found.differences[name]]
    ]
