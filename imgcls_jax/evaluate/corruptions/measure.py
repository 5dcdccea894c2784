"""Predictions of corrupted images, and the score that follows from them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from imgcls_jax.evaluate.corruptions.official import Arrays
from imgcls_jax.evaluate.corruptions.score import Score
from imgcls_jax.predictions import Predictor

FROST = "procedural texture, not comparable"

_CHUNK = 1000  # images at a time: canvases may be much larger than the images

Images = UInt8[np.ndarray, "m h w 3"]
Labels = Int[np.ndarray, "corruptions 5 n"]
Rows = Int[np.ndarray, " m"]
"""Places in the test set."""
Progress = Callable[[str], None]


def load(settings: c.Data, size: int) -> tuple[data.Split, tuple[str, ...]]:
    """The test images, RGB and `size` pixels square, and the class names.

    Raises:
      UserError: there is no test split.
    """
    # One size for all splits, so that the training images, which nobody looks at, cost little.
    canvas = dataclasses.replace(settings.eval_canvas or settings.canvas, height=size, width=size, channels=3)
    dataset = data.load(dataclasses.replace(settings, canvas=canvas, eval_canvas=None))
    if dataset.test is None:
        raise UserError("the config has no test images to corrupt: name a test split, or set data.test_share")
    return dataset.test, dataset.class_names


def of_test_set(
    predictor: Predictor, test: data.Split, *, limit: int | None, seed: int, progress: Progress = print
) -> Score:
    """The score on our own corruptions of a test set of RGB canvases."""
    rows = spread(len(test), limit)

    def corrupted(name: str, severity: int, rows: Rows) -> Images:
        return corrupt(test.read(rows), name, severity, seed=seed, indices=rows.tolist())

    labels = test.labels[rows]
    clean = _labels(predictor, test.read, rows)
    found = _predict(predictor, corrupted, tuple(CORRUPTIONS), rows, progress)
    return Score(
        dict(zip(CORRUPTIONS, (found == labels).mean(2), strict=True)),
        source=f"our corruptions of the test images at {test.canvas.width} × {test.canvas.height} pixels, seed {seed}",
        images=len(rows),
        of=len(test),
        clean=float((clean == labels).mean()),
        remarks={"frost": FROST},
    )


def of_arrays(
    predictor: Predictor, arrays: Arrays, *, limit: int | None, progress: Progress = print
) -> tuple[Labels, Score | None]:
    """The predictions of images that were corrupted elsewhere, and the score if their labels are known."""
    rows = spread(arrays.count, limit)
    found = _predict(predictor, arrays.images, arrays.names, rows, progress)
    if arrays.labels is None:
        return found, None
    accuracy = (found == arrays.labels[:, rows]).mean(2)
    return found, Score(
        dict(zip(arrays.names, accuracy, strict=True)),
        source=f"the arrays of {arrays.folder}",
        images=len(rows),
        of=arrays.count,
    )


def spread(count: int, limit: int | None) -> Rows:
    """All of `count` places, or `limit` of them at equal distances: folders are sorted by class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def _predict(
    predictor: Predictor,
    images: Callable[[str, int, Rows], Images],
    names: Sequence[str],
    rows: Rows,
    progress: Progress,
) -> Labels:
    found = np.empty((len(names), len(SEVERITIES), len(rows)), np.int64)
    for i, name in enumerate(names):
        for j, severity in enumerate(SEVERITIES):
            found[i, j] = _labels(predictor, lambda part: images(name, severity, part), rows)  # noqa: B023 - used at once
        progress(f"{name} done, {i + 1} of {len(names)}")
    return found


def _labels(predictor: Predictor, images: Callable[[Rows], Images], rows: Rows) -> Int[np.ndarray, " m"]:
    parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    return np.concatenate([predictor.labels(np.stack([*map(predictor.canvas, images(part))])) for part in parts])
