"""Look at images before a config is chosen for them: classes, splits, sizes, channels."""

import os
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.data.decode import Decoded, UnreadableImageError, decode
from imgcls_jax.data.examples import Examples, Progress, Splits, no_progress
from imgcls_jax.data.sources import hf_dataset, rows
from imgcls_jax.errors import UserError, short
from imgcls_jax.evaluation import tasks

# Images that are decoded, evenly spread over the training images.
_SAMPLE = 128
_THUMBNAIL = (64, 64)
_CATALOG_NAME = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9_.-]+)?(:[0-9.*]+)?")


@dataclass(frozen=True)
class Seen:
    """What is known of images without reading them all."""

    source: c.Source
    splits: Splits
    height: float
    """Median height of the sampled training images, pixels."""
    width: float
    """Median width."""
    is_gray: bool
    """Whether red, green and blue are equal in every pixel of the sampled images."""

    mean: tuple[float, float, float]
    """Mean of red, green and blue over the sampled images, 0 to 1."""
    std: tuple[float, float, float]
    """Their standard deviation, at least 0.01."""

    @property
    def short_side(self) -> float:
        return min(self.height, self.width)

    @property
    def counts(self) -> np.ndarray:
        """Number of training images of each class that has any."""
        counts = np.bincount(self.splits.train.labels)
        return counts[counts > 0]

    @property
    def table(self) -> dict[str, str]:
        """The same in words."""
        counts, splits = self.counts, self.splits
        rest = [f"{len(part):,} {part.name}" for part in (splits.validation, splits.test) if part is not None]
        kind = "gray" if self.is_gray else "color"
        return {
            "data": splits.title,
            "classes": f"{len(splits.class_names)}, of {counts.min():,} to {counts.max():,} training images",
            "images": ", ".join([f"{len(splits.train):,} training", *rest]),
            "size": f"{self.width:g}×{self.height:g} pixels (width × height, medians of a sample), {kind}",
        }


def source_of(
    data: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    *,
    on_progress: Progress = no_progress,
) -> c.Source:
    """Say what source reads some data: a folder of images or of `datasets`, a table of files and labels, an
    .npz file, a tfds name.

    Args:
      data: a path, or the name of a tfds set.
      table: the table that names the classes of the images in the folder `data`; None: their folders do.
      on_progress: called as on_progress(label, done, total) while a tfds set is downloaded and prepared.

    Raises:
      UserError: there is no such thing, or it is none of these.
    """
    name, path = os.fspath(data), Path(os.path.expanduser(data))
    absolute = os.path.abspath(path)
    if table is not None:
        if not os.path.isdir(path):
            raise UserError(f"{short(name)[1:-1]} is no folder: with a table of classes, give the folder of its images")
        return c.Table(os.path.abspath(os.path.expanduser(table)), folder=absolute)
    if os.path.isdir(path):
        return c.HFDataset(absolute) if hf_dataset.is_saved(path) else c.Folder(absolute)
    if os.path.isfile(path):
        if path.suffix.lower() in rows.SUFFIXES:
            return c.Table(absolute)
        if path.suffix.lower() == ".npz":
            return c.Arrays(absolute)
        raise UserError(
            f"{name} is neither a folder of images nor a table ({', '.join(rows.SUFFIXES)}) nor an .npz file"
        )
    if _CATALOG_NAME.fullmatch(name) and not path.suffix:
        return _catalog_set(name, on_progress)
    raise UserError(
        f"{short(name)[1:-1]} does not exist: give a folder of images, a table of files and classes, an .npz file or "
        "the name of a tfds set"
    )


def _catalog_set(name: str, on_progress: Progress) -> c.TFDS:
    from imgcls_jax.data.sources import tfds

    try:
        splits = tfds.splits_of(name, on_progress)
    except UserError as error:
        raise UserError(f"{name} is neither a folder nor a file here, and {error}") from None
    if "train" not in splits:
        raise UserError(
            f"the tfds set {name} has no split train but {', '.join(splits)}: write a config that names one"
        )
    return c.TFDS(
        name,
        train="train",
        validation=next((split for split in splits if split.startswith("val")), None),
        test="test" if "test" in splits else None,
    )


def look(
    source: c.Source, *, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress = no_progress
) -> Seen:
    """List the images of a source, and decode a sample of them.

    Raises:
      UserError: the source is not as its settings say, or no sampled image can be read.
    """
    splits = source.open(arrays, on_progress)
    tasks.need_classes(tasks.of_labels(splits.train.labels), "a config that is chosen by looking at the images")
    pixels = splits.train.pixels
    if pixels is not None and (pixels.dtype != np.uint8 or pixels.shape[3] not in (1, 3)):
        raise UserError(
            f"{splits.title} holds {pixels.dtype} images of {pixels.shape[3]} channels, for which no config is chosen: "
            "write one with data.canvas.channels and depth (docs/data.md)"
        )
    sample = _sample(splits.train, on_progress)
    if not sample:
        raise UserError(f"not one of the sampled training images of {splits.title} can be read")
    heights, widths = zip(*(decoded.size for decoded in sample), strict=True)
    colors = [np.asarray(decoded.image, np.float64) / 255 for decoded in sample]
    mean = np.mean([one.mean((0, 1)) for one in colors], axis=0)
    std = np.sqrt(np.mean([np.square(one - mean).mean((0, 1)) for one in colors], axis=0))
    return Seen(
        source=source,
        splits=splits,
        height=statistics.median(heights),
        width=statistics.median(widths),
        is_gray=all((one == one[..., :1]).all() for one in colors),
        mean=_rounded(mean),
        std=_rounded(std.clip(0.01)),
    )


def _sample(train: Examples, on_progress: Progress) -> list[Decoded]:
    count = min(len(train), _SAMPLE)
    chosen = [i * len(train) // count for i in range(count)]
    sample = []
    for done, index in enumerate(chosen):
        on_progress("looking at a sample of the images", done, count)
        try:
            sample.append(decode(train.read([index])[0], 3, lambda size: _THUMBNAIL))
        except UnreadableImageError:  # Set aside when all are read.
            continue
    return sample


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(value, 3) for value in values.tolist())
    return red, green, blue
