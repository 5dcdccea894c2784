"""Which classes are taken for which."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

# Numbers are written into the cells of a plot of at most this many classes, and names beside them.
_MOST_NUMBERED = 20
_MOST_NAMED = 60


def matrix(labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "k k"]:
    """Counts: rows are true classes, columns predicted ones."""
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def write_csv(counts: Int[np.ndarray, "k k"], class_names: Sequence[str], path: Path) -> None:
    """One line a true class, one column a predicted class."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))


def plot(counts: Int[np.ndarray, "k k"], class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Write a PNG: colour is the share of the true class's examples, numbers are counts."""
    from matplotlib.figure import Figure  # imported late: it takes half a second

    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.5, 0.55 * classes), 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if classes <= _MOST_NAMED:
        axes.set_xticks(range(classes), class_names, rotation=90)
        axes.set_yticks(range(classes), class_names)
    if classes <= _MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=110)
