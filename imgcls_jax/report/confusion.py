"""Count and draw which classes are taken for which."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int

from imgcls_jax.disk import outputs
from imgcls_jax.display import figures

# A plot of more classes shows those that are confused most, this many of them.
_MOST_SHOWN = 100
_PART = 40
# Shares below it are left out of the cells, and beyond this number of classes more are, so that a plot stays readable.
_LEAST_SHARE = 0.005
_MANY, _LEAST_OF_MANY = 30, 0.05

# Column of predictions that are none of the classes: a network may keep more outputs than there are classes.
_OTHER = "another output"


def matrix(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "k columns"]:
    """Count the examples of each pair of true class (row) and predicted class (column).

    Where an output is predicted that is none of the classes, a last column counts these.
    """
    predicted = np.minimum(np.asarray(predicted, np.int64), classes)
    columns = classes + bool((predicted == classes).any())
    pairs = np.asarray(labels, np.int64) * columns + predicted
    return np.bincount(pairs, minlength=classes * columns).reshape(classes, columns)


def _columns(counts: Int[np.ndarray, "k columns"], class_names: Sequence[str]) -> list[str]:
    return [*class_names, *[_OTHER] * (counts.shape[1] - len(class_names))]


def write_csv(counts: Int[np.ndarray, "k columns"], class_names: Sequence[str], path: Path) -> None:
    """Write a CSV file of the counts: one line per true class, one column per predicted class."""
    with outputs.writing(path) as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *_columns(counts, class_names)])
        writer.writerows([name, *row.tolist()] for name, row in zip(class_names, counts, strict=True))


def most_confused(counts: Int[np.ndarray, "k columns"], limit: int) -> Int[np.ndarray, " shown"]:
    """Choose at most `limit` classes, of the most frequent confusions in either direction: labels, ascending."""
    rows, columns = np.nonzero(counts[:, : len(counts)])
    return _most_confused(rows, columns, counts[rows, columns], limit)


def _most_confused(
    rows: Int[np.ndarray, " pairs"], columns: Int[np.ndarray, " pairs"], images: Int[np.ndarray, " pairs"], limit: int
) -> Int[np.ndarray, " shown"]:
    """`most_confused` of the pairs (true class, predicted class) that occur, few of the very many of many classes."""
    wrong = rows != columns
    rows, columns, images = rows[wrong], columns[wrong], images[wrong]
    classes = max(rows.max(initial=0), columns.max(initial=0)) + 1
    pairs, place = np.unique(np.minimum(rows, columns) * classes + np.maximum(rows, columns), return_inverse=True)
    both = np.bincount(place, weights=images)
    chosen: dict[int, None] = {}
    for pair in pairs[np.argsort(-both, kind="stable")].tolist():
        added = [label for label in divmod(pair, classes) if label not in chosen]
        if len(chosen) + len(added) > limit:
            break
        chosen |= dict.fromkeys(added)
    return np.array(sorted(chosen), np.int64)


def plot_predictions(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    class_names: Sequence[str],
    path: Path,
    *,
    title: str,
) -> None:
    """Write the PNG of `plot` without the matrix of all classes, which takes 800 MB for 10,000 of them."""
    classes, labels, predicted = len(class_names), labels.astype(np.int64), predicted.astype(np.int64)
    rows = np.zeros(0, np.int64)
    if classes > _MOST_SHOWN:
        known = predicted < classes
        pairs, counts = np.unique(labels[known] * classes + predicted[known], return_counts=True)
        rows = _most_confused(*np.divmod(pairs, classes), counts, _PART)
    if not len(rows):
        plot(matrix(labels, predicted, classes), class_names, path, title=title)
        return
    place = np.full(max(classes, int(predicted.max()) + 1), -1)
    place[rows] = np.arange(len(rows))
    shown = (place[labels] >= 0) & (place[predicted] >= 0)
    counts = matrix(place[labels[shown]], place[predicted[shown]], len(rows))
    _plot_part(counts, np.bincount(labels, minlength=classes)[rows], rows, class_names, path, title)


def _plot_part(
    counts: Int[np.ndarray, "shown shown"],
    images: Int[np.ndarray, " shown"],
    rows: Int[np.ndarray, " shown"],
    class_names: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw the classes `rows`, of which there are so many `images`."""
    columns = [class_names[row] for row in rows.tolist()]
    title = f"{title}: the {len(rows)} most confused of {len(class_names):,} classes"
    names, recall = _texts(columns, images, counts.diagonal())
    _draw(counts / np.maximum(images[:, None], 1), names, columns, recall, path, title)


def _texts(
    names: Sequence[str], images: Int[np.ndarray, " k"], right: Int[np.ndarray, " k"]
) -> tuple[list[str], list[str]]:
    """Each class with its number of images, and its recall."""
    counted = [f"{name} ({number:,})" for name, number in zip(names, images.tolist(), strict=True)]
    return counted, [f"{100 * part / whole:.1f}" if whole else "–" for part, whole in zip(right, images, strict=True)]


def plot(counts: Int[np.ndarray, "k columns"], class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Write a PNG of the percentages of each true class's examples, with its number of examples and its recall.

    Of more than 100 classes only those that are confused most are shown, their percentages still of all examples.
    """
    columns = _columns(counts, class_names)
    images, right = counts.sum(1), counts.diagonal()
    if len(class_names) > _MOST_SHOWN and len(rows := most_confused(counts, _PART)):
        _plot_part(counts[np.ix_(rows, rows)], images[rows], rows, class_names, path, title)
        return
    names, recall = _texts(class_names, images, right)
    if len(class_names) > _MOST_SHOWN:
        names, columns, recall = [], [], []  # nothing is confused: a diagonal
    shares = counts / np.maximum(images[:, None], 1)
    _draw(shares, names, columns, recall, path, title)


def _draw(
    shares: Float64[np.ndarray, "k columns"],
    names: Sequence[str],
    columns: Sequence[str],
    recall: Sequence[str],
    path: Path,
    title: str,
) -> None:
    many = len(shares) > _MANY
    size = 6 if many else 8  # of the text, points
    side = max(4.0, (0.17 if many else 0.42) * len(shares)) if names else 6.0
    longest = max((len(name) for name in [*names, *columns]), default=0) * size * 0.6 / 72
    figure = figures.figure(side + min(longest, 3) + 1.2, side + min(longest, 3) + 0.6)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="predicted class (cells: % of the true class)",
        ylabel="true class (images)",
        title=figures.literal(title),
    )
    turn = 90 if any(len(name) > 2 for name in columns) else 0
    axes.set_xticks(range(len(columns)), [_short(name) for name in columns], rotation=turn, fontsize=size)
    axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=size)
    if names:
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(recall)), recall, fontsize=size)
        right.tick_params(length=0)
        right.set_ylabel("recall, %")
    least = _LEAST_OF_MANY if many else _LEAST_SHARE
    for row, column in np.argwhere(shares >= least).tolist() if names else ():
        color = "white" if shares[row, column] > 0.5 else "black"
        number = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, number, ha="center", va="center", color=color, fontsize=size - 1 if many else size)
    figures.save(figure, path, dpi=130)


def _short(name: str) -> str:
    """A name of at most 30 characters; its end stays, which holds the number of images."""
    return figures.literal(name if len(name) <= 30 else f"{name[:18]}…{name[-11:]}")
