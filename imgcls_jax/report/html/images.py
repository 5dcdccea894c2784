"""The sections of a page that show images: top losses, label candidates, and those behind the confusion matrix."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import scores, suspects
from imgcls_jax.evaluation.suspects import Suspect
from imgcls_jax.inference.explanation import Explanation
from imgcls_jax.report import confusion
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.html.pictures import Album

_TOP = 24
_CANDIDATES = 24
# Images that are shown at most of a cell of the matrix, where they are right and where they are wrong; of all cells.
_RIGHT, _WRONG, _ALL = 8, 24, 900
_MOST_CLASSES = 50
_PART = 40
_SHADES = 12
_READ = 64  # canvases at a time


def top_losses(run: Material, album: Album) -> dict[str, Any]:
    """Return the images of the greatest losses, each with a map of where the network found its class."""
    made = run.predictions
    found = suspects.top_losses(made, _TOP)
    rows = _rows(run, found)
    note = ""
    maps: list[Explanation | None] = [None] * len(found)
    try:
        canvases = run.images(rows)
    except UserError as error:
        return {
            "images": [_shown(one, None, None) for one in found],
            "note": f"No images: {error}.",
            "split": made.split,
        }
    try:
        explained = run.classifier.explain(canvases)
        assert isinstance(explained, list), "several images are explained"
        maps = list(explained)
    except UserError as error:
        note = f"No maps: {error}."
    shown = []
    for one, canvas, heat in zip(found, canvases, maps, strict=True):
        picture = album.add(canvas if heat is None else heat.image)
        shown.append(_shown(one, picture, None if heat is None else album.add_heat(heat)))
    return {
        "images": shown,
        "note": note,
        "split": made.split,
        "hot": float(np.mean([one.hot_drop for one in maps if one])) if maps[0] else None,
        "cold": float(np.mean([one.cold_drop for one in maps if one])) if maps[0] else None,
    }


def label_candidates(run: Material, album: Album) -> dict[str, Any]:
    """Return the images whose label is probably wrong."""
    found = suspects.wrong_labels(run.predictions)
    first = found[:_CANDIDATES]
    note = ""
    canvases: list[Any] = [None] * len(first)
    try:
        canvases = run.images(_rows(run, first))
    except UserError as error:
        note = f"No images: {error}."
    shown = [
        _shown(one, None if canvas is None else album.add(canvas), None)
        for one, canvas in zip(first, canvases, strict=True)
    ]
    return {"images": shown, "count": len(found), "note": note, "split": run.predictions.split}


def _rows(run: Material, found: list[Suspect]) -> Int[np.ndarray, " n"]:
    rows = {name: row for row, name in enumerate(run.predictions.names)}
    return np.array([rows[one.name] for one in found], np.int64)


def _shown(one: Suspect, picture: str | None, heat: str | None) -> dict[str, Any]:
    return {
        "true": one.class_name,
        "predicted": one.suggested,
        "right": one.class_name == one.suggested,
        "probability": one.probability,
        "loss": -math.log(max(one.probability, float(np.finfo(np.float64).eps))),
        "file": one.name,
        "picture": picture,
        "heat": heat,
    }


def matrix(run: Material, album: Album, prefix: str) -> dict[str, Any]:
    """Return the confusion matrix, the most confused pairs, and the images of the cells.

    Args:
      run: whose predictions are shown.
      album: takes the images.
      prefix: distinguishes the runs of a page.
    """
    made = run.predictions
    classes = sum(not name.startswith("output ") for name in made.class_names)
    counts = confusion.matrix(made.labels, made.predicted, classes)
    shown = np.arange(classes)
    if classes > _MOST_CLASSES:
        shown = confusion.most_confused(counts, _PART)
    columns = [*shown.tolist(), *range(classes, counts.shape[1])]
    names = [*made.class_names[:classes], "another output"]
    pairs = [(row, column) for row in shown.tolist() for column in columns if counts[row, column]]
    note = ""
    cells: dict[str, list[int]] = {}
    images: list[list[Any]] = []
    try:
        cells, images = _behind(run, album, pairs, classes)
    except UserError as error:
        note = f"No images behind the cells: {error}."
    totals = counts.sum(1)
    rows = [
        {
            "name": names[row],
            "images": int(totals[row]),
            "recall": float(counts[row, row] / totals[row]) if totals[row] else None,
            "cells": [_cell(counts, row, column, names, f"{row},{column}" in cells) for column in columns],
        }
        for row in shown.tolist()
    ]
    confused = [
        {"true": names[row], "predicted": names[column], "images": images_, "of": int(totals[row]),
         "cell": f"{row},{column}" if f"{row},{column}" in cells else None,
         "back": int(counts[column, row]) if column < classes else 0}
        for row, column, images_ in scores.most_confused(counts[:, :classes])
    ]  # fmt: skip
    return {
        "rows": rows,
        "columns": [names[column] for column in columns],
        "classes": classes,
        "confused": confused,
        "data": {"names": names, "cells": cells, "images": images},
        "split": made.split,
        "total": len(made),
        "prefix": prefix,
        "note": note,
        "is_full": album.is_full,
    }


def _cell(counts: np.ndarray, row: int, column: int, names: list[str], has_images: bool) -> dict[str, Any]:
    count, total = int(counts[row, column]), int(counts[row].sum())
    share = count / total if total else 0.0
    # The square root, so that a few mistakes among many right ones can be seen.
    shade = math.ceil(_SHADES * math.sqrt(share)) if count else 0
    images = f"{count:,} image{'s'[: count != 1]}"
    return {
        "count": count,
        "style": f"{'right' if row == column else 'wrong'} shade{shade}" if count else "none",
        "key": f"{row},{column}" if has_images else None,
        "text": f"true {names[row]}, predicted {names[column]}: {images}, {100 * share:.1f} %",
    }


def _behind(
    run: Material, album: Album, pairs: list[tuple[int, int]], classes: int
) -> tuple[dict[str, list[int]], list[list[Any]]]:
    """The numbers of the images of each cell, and the images: wrong ones first, those of the greatest losses first."""
    made, split = run.predictions, run.split
    losses = scores.log_losses(made)
    predicted = np.minimum(made.predicted, classes)
    order = np.argsort(-losses, kind="stable")
    of_cell: dict[tuple[int, int], list[int]] = {pair: [] for pair in pairs}
    for row in order.tolist():
        members = of_cell.get((int(made.labels[row]), int(predicted[row])))
        if members is not None:
            members.append(row)
    # Round by round, so that where room is short every cell has some.
    turns = [
        (pair[0] == pair[1], place, pair, row)
        for pair, members in of_cell.items()
        for place, row in enumerate(members[: _RIGHT if pair[0] == pair[1] else _WRONG])
    ]
    turns.sort(key=lambda turn: turn[:2])
    cells: dict[str, list[int]] = {}
    images: list[list[Any]] = []
    for start in range(0, min(len(turns), _ALL), _READ):
        part = turns[start : min(start + _READ, _ALL)]
        canvases = split.read(np.array([row for *_, row in part]))
        for (_, _, pair, row), canvas in zip(part, canvases, strict=True):
            if (picture := album.add(canvas)) is None:
                return cells, images
            label, guess = pair[0], int(made.predicted[row])
            own, other = (float(made.probabilities[row, column]) for column in (label, guess))
            cells.setdefault(f"{pair[0]},{pair[1]}", []).append(len(images))
            images.append([picture, made.names[row], round(own, 4), round(other, 4)])
    return cells, images
