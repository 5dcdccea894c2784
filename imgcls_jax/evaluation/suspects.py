"""Images to look at: those that are predicted most wrong, and those whose label is probably wrong.

Candidates for wrong labels are found by confident learning (Northcutt et al., 2021): an image is one where a class
other than its label reaches the mean probability that this class has among its own images. That needs probabilities of
images that the network was not trained on, as those of a validation or test split are; of training images, out of fold.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from imgcls_jax.evaluation import scores
from imgcls_jax.evaluation.predictions import Predictions

_TOLERANCE = 1e-6  # below a class's mean probability, that still counts as reaching it


@dataclass(frozen=True)
class Suspect:
    """An image to look at."""

    reason: str
    """"loss" or "label"."""
    split: str
    name: str
    """Its file or record."""
    class_name: str
    """That of its label."""
    suggested: str
    """The class that the network would give it."""
    probability: float
    """The network's probability of its label, in [0, 1]."""


def top_losses(predictions: Predictions, count: int) -> list[Suspect]:
    """Return the images of the greatest losses, the greatest first, right or wrong; at most `count`."""
    order = np.argsort(-scores.log_losses(predictions), kind="stable")[:count]
    return [_suspect("loss", predictions, row, int(predictions.predicted[row])) for row in order.tolist()]


def wrong_labels(predictions: Predictions) -> list[Suspect]:
    """Return the candidates for wrong labels, the least probable label first."""
    suggested, issue = confident_labels(predictions)
    rows = np.flatnonzero(issue)
    own = predictions.probabilities[rows, predictions.labels[rows]]
    order = rows[np.argsort(own, kind="stable")]
    return [_suspect("label", predictions, row, int(suggested[row])) for row in order.tolist()]


def confident_labels(predictions: Predictions) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the label that confident learning gives each image, and whether the image is a candidate: that label is
    confident and not its own.

    Raises:
      UserError: an output is not finite.
    """
    predictions.check_finite()
    shares, labels = predictions.probabilities, predictions.labels
    reached = shares >= _thresholds(predictions) - _TOLERANCE
    best = shares.argmax(axis=1)
    suggested = np.where(reached.sum(axis=1) > 1, best, reached.argmax(axis=1))
    # A label that is the most probable class is not wrong to the network.
    return suggested, reached.any(axis=1) & (suggested != labels) & (best != labels)


def _thresholds(predictions: Predictions) -> Float64[np.ndarray, " classes"]:
    """The mean probability of each class among its own images; above 1, which nothing reaches, for one without any."""
    images = np.bincount(predictions.labels, minlength=predictions.classes)
    own = predictions.probabilities[np.arange(len(predictions)), predictions.labels]
    total = np.bincount(predictions.labels, weights=own, minlength=predictions.classes)
    return np.where(images > 0, total / np.maximum(images, 1), 2.0)


def _suspect(reason: str, predictions: Predictions, row: int, suggested: int) -> Suspect:
    label, names = int(predictions.labels[row]), predictions.class_names
    probability = float(predictions.probabilities[row, label])
    return Suspect(reason, predictions.split, predictions.names[row], names[label], names[suggested], probability)
