"""Classify corrupted images and compute the accuracy of each corruption."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import classes, tasks
from imgcls_jax.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, photographs
from imgcls_jax.evaluation.corruptions.official import Arrays
from imgcls_jax.evaluation.corruptions.score import Score

FROST = "procedural texture, not comparable: pip install --no-deps imagecorruptions brings the photographs"

_CHUNK = 1000  # images at a time, so that the corrupted ones need not all be in memory

Images = UInt8[np.ndarray, "m h w 3"]
Labels = Int[np.ndarray, "corruptions 5 n"]
Rows = Int[np.ndarray, " m"]
"""Indices into the test set."""
Classify = Callable[[Images], Int[np.ndarray, " m"]]
"""Gives the number of the most probable class of each image, such as `Classifier.labels`."""
Progress = Callable[[str], None]


@runtime_checkable
class TestImages(Protocol):
    """A test split of RGB images, as `load` gives it."""

    name: str
    labels: Int[np.ndarray, " n"]
    canvas: c.Canvas

    def __len__(self) -> int:
        """Count the images."""
        ...

    def read(self, indices: Rows) -> Images:
        """Read the images of these indices."""
        ...


def load(
    settings: c.Data, size: int, *, split: str = "test", trained: Sequence[str] | None = None
) -> tuple[data.Split, tuple[str, ...]]:
    """Load the test or validation images, RGB and `size` pixels square, and the class names.

    Args:
      settings: the data.
      size: pixels of a side.
      split: "test" or "validation".
      trained: the classes whose labels the images get, by name; None: the data's own.

    Raises:
      UserError: there is no such split, or an image's class is not trained.
    """
    if not settings.canvas.is_picture:
        raise UserError(
            "the corruptions are those of photographs, gray or RGB of 8 bits, but data.canvas has "
            f"channels={settings.canvas.channels} and depth={settings.canvas.depth}"
        )
    # One size for all splits, so that the training images, which nobody looks at, cost little.
    canvas = dataclasses.replace(settings.eval_canvas or settings.canvas, height=size, width=size, channels=3)
    dataset = data.load(dataclasses.replace(settings, canvas=canvas, eval_canvas=None))
    tasks.need_classes(tasks.of_labels(dataset.train.labels), "the accuracy under corruptions")
    if trained is not None:
        dataset = classes.matched(dataset, trained)
    images = dataset.test if split == "test" else dataset.validation
    if images is None:
        other = "validation" if split == "test" else "test"
        there = (dataset.validation if split == "test" else dataset.test) is not None
        instead = f", or take the {other} images: --split {other}" if there else ""
        raise UserError(
            f"the config has no {split} images to corrupt: name a {split} split, or set data.{split}_share{instead}"
        )
    return images, dataset.class_names


def of_test_set(
    classify: Classify, test: TestImages, *, limit: int | None, seed: int, progress: Progress = print
) -> Score:
    """Measure the accuracy on our own corruptions of a test set of RGB canvases.

    Args:
      classify: the model.
      test: the images.
      limit: use so many images only, spread evenly over the test set; None: all.
      seed: of the corruptions' random numbers.
      progress: called with a sentence after each corruption.
    """
    rows = spread(len(test), limit)

    def corrupted(name: str, severity: int, rows: Rows) -> Images:
        return corrupt(test.read(rows), name, severity, seed=seed, indices=rows.tolist())

    labels = test.labels[rows]
    clean = _labels(classify, test.read, rows)
    found = _predict(classify, corrupted, tuple(CORRUPTIONS), rows, progress)
    size = f"{test.canvas.width} × {test.canvas.height}"
    return Score(
        dict(zip(CORRUPTIONS, (found == labels).mean(2), strict=True)),
        source=f"our corruptions of the {test.name} images at {size} pixels, seed {seed}",
        images=len(rows),
        of=len(test),
        clean=float((clean == labels).mean()),
        remarks={} if photographs.folder() else {"frost": FROST},
    )


def of_arrays(
    classify: Classify, arrays: Arrays, *, limit: int | None, progress: Progress = print
) -> tuple[Labels, Score | None]:
    """Classify images that were corrupted elsewhere, and measure the accuracy if their labels are known."""
    rows = spread(arrays.count, limit)
    found = _predict(classify, arrays.images, arrays.names, rows, progress)
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
    """Give all of `count` indices, or `limit` of them at equal distances, because folders are sorted by class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def _predict(
    classify: Classify,
    images: Callable[[str, int, Rows], Images],
    names: Sequence[str],
    rows: Rows,
    progress: Progress,
) -> Labels:
    found = np.empty((len(names), len(SEVERITIES), len(rows)), np.int64)
    for i, name in enumerate(names):
        for j, severity in enumerate(SEVERITIES):
            found[i, j] = _labels(classify, lambda part: images(name, severity, part), rows)  # noqa: B023 - used at once
        progress(f"{name} done, {i + 1} of {len(names)}")
    return found


def _labels(classify: Classify, images: Callable[[Rows], Images], rows: Rows) -> Int[np.ndarray, " m"]:
    parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    return np.concatenate([classify(images(part)) for part in parts])
