"""Compute the figures of a split from its predictions, most of them by scikit-learn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from imgcls_jax.evaluation.predictions import Predictions

CALIBRATION_BINS = 15
"""Number of bins of equal width in which the expected calibration error compares confidence and accuracy."""
PER_CLASS = ("precision", "recall", "f1", "auroc", "average_precision")
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})


@dataclass(frozen=True)
class Scores:
    """The figures of a split; shares and areas are in [0, 1]."""

    overall: dict[str, float]
    """By name: "accuracy", "balanced_accuracy", "precision", "recall", "f1" (means over classes), "weighted_f1" (by
    their numbers of images), "auroc", "average_precision" (means over classes, each against the rest), "log_loss",
    "brier" (sum of squared errors of all probabilities, 0 to 2; half of it with two classes, as usual there), "ece"."""
    per_class: dict[str, Float64[np.ndarray, " classes"]]
    """By the names of `PER_CLASS`; NaN for a class of which the split has no images, or nothing else."""
    support: Int64[np.ndarray, " classes"]
    """Number of images of each class."""
    confusion: Int64[np.ndarray, "classes classes"]
    """Number of images by true class (row) and predicted class (column)."""


def of(predictions: Predictions, *, ranked: bool = True) -> Scores:
    """Compute the figures of a split.

    Means over classes are over those that occur as a label (recall, areas), or also as a prediction (precision, F1),
    as in scikit-learn; a class that is never predicted has precision 0.

    Args:
      predictions: of at least one image.
      ranked: compute "auroc" and "average_precision" too, which take a sort per class.

    Raises:
      UserError: an output is not finite.
    """
    from sklearn import metrics  # imported late: it takes half a second

    predictions.check_finite()
    labels, predicted, classes = predictions.labels, predictions.predicted, np.arange(predictions.classes)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    labeled, seen = support > 0, (support + confusion.sum(axis=0)) > 0
    nothing = np.where(seen, 0.0, np.nan)
    per_class = {
        "precision": precision + nothing,
        "recall": np.where(labeled, recall, np.nan),
        "f1": f1 + nothing,
    }
    overall = {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": float(recall[labeled].mean()),
        "precision": float(precision[seen].mean()),
        "recall": float(recall[seen].mean()),
        "f1": float(f1[seen].mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
    }
    if ranked:
        areas = predictions.ranked.areas
        per_class |= areas
        overall |= {name: _mean(values) for name, values in areas.items()}
    overall |= {
        "log_loss": float(log_losses(predictions).mean()),
        "brier": float(brier(predictions).mean()),
        "ece": calibration_error(*confidence(predictions)),
    }
    return Scores(overall, per_class, support, confusion)


def _mean(values: Float64[np.ndarray, " classes"]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def log_losses(predictions: Predictions) -> Float64[np.ndarray, " n"]:
    """Minus the logarithm of the probability of each image's own class, which counts as at least 2.2e-16, as in
    scikit-learn."""
    return -np.log(np.clip(predictions.own_probabilities, np.finfo(np.float64).eps, None))


def brier(predictions: Predictions) -> Float64[np.ndarray, " n"]:
    """Squared error of each image's probabilities, summed over classes; with two classes that of one of them."""
    one_hot = np.arange(predictions.classes) == predictions.labels[:, None]
    squared = ((predictions.probabilities - one_hot) ** 2).sum(axis=1)
    return squared / 2 if predictions.classes == 2 else squared


def confidence(predictions: Predictions) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The probability of the class that is predicted for each image, and whether that is right."""
    return predictions.probabilities.max(axis=1), predictions.right


def bin_of(confidence: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The bin of each confidence, 0 … `CALIBRATION_BINS` − 1; a bin includes its upper edge."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def calibration_error(confidence: Float64[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> float:
    """Compute the expected calibration error: the mean over images of the gap between the accuracy and the mean
    confidence of their bin."""
    gaps = np.bincount(bin_of(confidence), weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def most_confused(confusion: Int64[np.ndarray, "k k"], count: int = 10) -> list[tuple[int, int, int]]:
    """List the pairs (true class, predicted class, images) of wrong predictions, the most frequent first."""
    rows, columns = np.nonzero(confusion)  # few of very many where there are many classes
    wrong = rows != columns
    rows, columns = rows[wrong], columns[wrong]
    images = confusion[rows, columns]
    order = np.argsort(-images, kind="stable")[:count]
    return list(zip(rows[order].tolist(), columns[order].tolist(), images[order].tolist(), strict=True))
