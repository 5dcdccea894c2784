"""Draw how often a network is right at each confidence, before and after calibration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, Int64

from imgcls_jax.display import figures
from imgcls_jax.evaluation import scores

FEW = 5
"""Images of a bin, below which its accuracy says nothing and is drawn faint."""


@dataclass(frozen=True)
class Bins:
    """The accuracy at each confidence, in bins of equal width of which those without images are left out."""

    centers: Float64[np.ndarray, " bins"]
    """Of each bin, in [0, 1]."""
    images: Int64[np.ndarray, " bins"]
    confidence: Float64[np.ndarray, " bins"]
    """Mean confidence of the bin's images."""
    accuracy: Float64[np.ndarray, " bins"]
    error: float
    """Expected calibration error, in [0, 1]."""


def bins(probabilities: Float64[np.ndarray, "n classes"], labels: Int32[np.ndarray, " n"]) -> Bins:
    """Sort images into bins by the probability of the class that is predicted."""
    count = scores.CALIBRATION_BINS
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = scores.bin_of(confidence)
    images = np.bincount(number, minlength=count)
    there = images > 0
    mean = np.bincount(number, weights=confidence, minlength=count)[there] / images[there]
    accuracy = np.bincount(number, weights=right, minlength=count)[there] / images[there]
    centers = ((np.arange(count) + 0.5) / count)[there]
    return Bins(centers, images[there], mean, accuracy, scores.calibration_error(confidence, right))


def plot(
    curves: Mapping[str, Float64[np.ndarray, "n classes"]], labels: Int32[np.ndarray, " n"], path: Path, *, title: str
) -> None:
    """Write a PNG with a reliability diagram for each set of probabilities.

    Args:
      curves: probabilities by name, such as "before" and "after".
      labels: class of each image.
      path: the file.
      title: above.
    """
    figure = figures.figure(4.4 * len(curves), 5.2)
    panels = figure.subplots(2, len(curves), height_ratios=(3, 1), sharex=True, squeeze=False)
    width = 0.9 / scores.CALIBRATION_BINS
    for (name, probabilities), (axes, below) in zip(curves.items(), panels.T, strict=True):
        found = bins(probabilities, labels)
        axes.plot((0, 1), (0, 1), ":", color="gray", linewidth=1)
        colors = ["tab:blue" if count >= FEW else "lightsteelblue" for count in found.images]
        axes.bar(found.centers, found.accuracy, width=width, color=colors)
        axes.plot(found.confidence, found.accuracy, "o", color="tab:red", markersize=4)
        axes.set(title=f"{name}: calibration error {100 * found.error:.1f} %", xlim=(0, 1), ylim=(0, 1))
        below.bar(found.centers, found.images, width=width, color="gray")
        below.set(xlabel="confidence")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("images")
    figure.suptitle(figures.literal(title))
    figures.save(figure, path, dpi=120)
