"""Draw how often a network is right at each confidence, before and after calibration."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from imgcls_jax.display import figures
from imgcls_jax.evaluation import scores

_FEW = 5  # images of a bin, below which its accuracy says nothing and is drawn faint


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
    bins = scores.CALIBRATION_BINS
    centers = (np.arange(bins) + 0.5) / bins
    for (name, probabilities), (axes, below) in zip(curves.items(), panels.T, strict=True):
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        number = scores.bin_of(confidence)
        images = np.bincount(number, minlength=bins)
        there = images > 0
        mean = np.bincount(number, weights=confidence, minlength=bins)[there] / images[there]
        accuracy = np.bincount(number, weights=right, minlength=bins)[there] / images[there]
        axes.plot((0, 1), (0, 1), ":", color="gray", linewidth=1)
        colors = ["tab:blue" if count >= _FEW else "lightsteelblue" for count in images[there]]
        axes.bar(centers[there], accuracy, width=0.9 / bins, color=colors)
        axes.plot(mean, accuracy, "o", color="tab:red", markersize=4)
        error = scores.calibration_error(confidence, right)
        axes.set(title=f"{name}: calibration error {100 * error:.1f} %", xlim=(0, 1), ylim=(0, 1))
        below.bar(centers, images, width=0.9 / bins, color="gray")
        below.set(xlabel="confidence")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("images")
    figure.suptitle(figures.literal(title))
    figures.save(figure, path, dpi=120)
