"""How well each class is predicted, as rows of a table, and which classes are the weakest."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from imgcls_jax.evaluation import bootstrap
from imgcls_jax.evaluation.predictions import Predictions


class ClassRow(NamedTuple):
    """What is found of a class; a share without images is NaN."""

    label: int
    class_name: str
    images: int
    """Images of the class."""
    predicted: int
    """Images that are predicted as it."""
    right: int
    """Images of the class that are predicted right."""
    recall: float
    """right / images, in [0, 1]."""
    recall_low: float
    recall_high: float
    """Wilson's 95 % interval of the recall."""
    precision: float
    """right / predicted, in [0, 1]."""
    f1: float
    """Harmonic mean of both, in [0, 1]."""
    most_confused_with: str
    """The class as which most of its wrong images are predicted; empty if all are right."""
    confused_images: int
    """How many these are."""


def rows(predictions: Predictions) -> list[ClassRow]:
    """Return a row for every output, by label."""
    classes = predictions.classes
    images, predicted, right = (
        np.bincount(found, minlength=classes)
        for found in (predictions.labels, predictions.predicted, predictions.labels[predictions.right])
    )
    low, high = wilson(right, images)
    other, confused = _confusions(predictions)
    names = predictions.class_names
    return [
        ClassRow(
            label,
            names[label],
            int(images[label]),
            int(predicted[label]),
            int(right[label]),
            _share(right[label], images[label]),
            float(low[label]),
            float(high[label]),
            _share(right[label], predicted[label]),
            _share(2 * right[label], images[label] + predicted[label]),
            names[other[label]] if confused[label] else "",
            int(confused[label]),
        )
        for label in range(classes)
    ]


def _confusions(predictions: Predictions) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, " classes"]]:
    """The class as which most of each class's wrong images are predicted, the lower of equals, and how many they are.

    Counted by the pairs that occur: a matrix of 10,000 classes takes 800 MB.
    """
    classes, wrong = predictions.classes, ~predictions.right
    pairs = predictions.labels[wrong].astype(np.int64) * classes + predictions.predicted[wrong]
    pairs, images = np.unique(pairs, return_counts=True)
    # Of pairs in ascending order of their images the last of each class stays.
    order = np.lexsort((-pairs, images))
    label, named = np.divmod(pairs[order], classes)
    other, confused = np.zeros((2, classes), np.int64)
    other[label], confused[label] = named, images[order]
    return other, confused


def _share(part: int | np.integer, whole: int | np.integer) -> float:
    return float(part / whole) if whole else float("nan")


def wilson(
    right: Int64[np.ndarray, " n"], images: Int64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Compute Wilson's 95 % interval of shares right / images; NaN where there are no images.

    It is right for few images and for shares of 0 and 1, where a bootstrap has no width.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share, z2 = right / images, bootstrap.Z**2
        middle = (share + z2 / (2 * images)) / (1 + z2 / images)
        half = bootstrap.Z * np.sqrt(share * (1 - share) / images + z2 / (4 * images**2)) / (1 + z2 / images)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def weakest(found: Sequence[ClassRow], count: int = 5) -> list[ClassRow]:
    """Return the classes of the lowest recall, the lowest first; those of which every image is right are left out."""
    wrong = [row for row in found if row.right < row.images]
    return sorted(wrong, key=lambda row: (row.recall, -row.images))[:count]
