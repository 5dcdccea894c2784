"""Compute the mean and standard deviation of the training images, and what the data set holds."""

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data.decode import Size, UnreadableImageError, original_size
from imgcls_jax.errors import UserError

_CHUNK = 1024  # original images that are held at a time


@dataclass(frozen=True)
class Stats:
    """What is known of a data set before training."""

    mean: tuple[float, ...]
    """Mean of each channel over all pixels of the training canvases; black is 0, white is 1."""
    std: tuple[float, ...]
    """Their standard deviation on the same scale."""
    counts: dict[str, dict[str, int]]
    """Images of each class, by split and class name."""
    heights: tuple[int, float, int]
    """Least, median and greatest height of the original training images, pixels."""
    widths: tuple[int, float, int]
    """Least, median and greatest width."""
    suffixes: dict[str, int]
    """Number of training files with each suffix, in lower case, the most frequent first; empty where the images are
    not files."""
    bad: tuple[data.BadImage, ...]
    """The unreadable images of all splits."""


def compute(settings: c.Data, on_progress: data.Progress | None = None) -> Stats:
    """Load a data set and compute its statistics.

    Example:
      >>> import numpy as np, tempfile
      >>> file = tempfile.mkdtemp() + "/gray.npz"
      >>> np.savez(file, x_train=np.full((4, 8, 8), 51, np.uint8), y_train=[0, 1, 0, 1])
      >>> settings = c.Data(c.Arrays(file), c.Canvas(8, 8, 1), (8, 8), mean=(0.0,), std=(1.0,))
      >>> compute(settings).mean
      (0.2,)

    Raises:
      UserError: the source is not as the settings say.
    """
    dataset = data.load(settings, on_progress=on_progress)
    mean, std = data.channel_statistics(dataset.train)
    sizes, suffixes = _originals(dataset.train, on_progress or data.no_progress)
    heights, widths = zip(*sizes, strict=True)
    return Stats(
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        counts={
            split.name: dict(
                zip(dataset.class_names, split.class_counts(len(dataset.class_names)).tolist(), strict=True)
            )
            for split in dataset.splits
        },
        heights=(min(heights), float(statistics.median(heights)), max(heights)),
        widths=(min(widths), float(statistics.median(widths)), max(widths)),
        suffixes=dict(suffixes.most_common()),
        bad=tuple(dataset.bad),
    )


def of_folder(folder: str, *, size: int, channels: int) -> c.Data:
    """Describe a folder of images, every one of which is fitted into a square canvas of `size` pixels."""
    return c.Data(
        source=c.Folder(folder),
        canvas=c.Canvas(size, size, channels),
        image_size=(size, size),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        max_bad_share=0.99,  # Unreadable files are counted here, not a reason to stop.
    )


def _originals(split: data.Split, on_progress: data.Progress) -> tuple[list[Size], Counter[str]]:
    """Size of each original image, and the number of files with each suffix."""
    sizes, suffixes = [], Counter[str]()
    for start in range(0, len(split), _CHUNK):
        images = split.read_original(np.arange(start, min(start + _CHUNK, len(split))))
        for image in images:
            if isinstance(image, Path):
                suffixes[image.suffix.lower() or "without a suffix"] += 1
            try:
                sizes.append(original_size(image))
            except UnreadableImageError as error:
                raise UserError(
                    f"an image of {split.name} was readable a moment ago and no longer is: {error}"
                ) from error
        on_progress("reading the images' sizes", start + len(images), len(split))
    return sizes, suffixes
