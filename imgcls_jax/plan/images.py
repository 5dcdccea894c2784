"""The size of a data set that is not read: what a step's shapes and the length of an epoch depend on."""

import re

import numpy as np
from jaxtyping import Int64, UInt

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data.catalog import entries
from imgcls_jax.errors import UserError

_CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "imagenette": 10,
    "cats_vs_dogs": 2,
    "stanford_dogs": 120,
    "oxford_iiit_pet": 37,
    "oxford_flowers102": 102,
    "imgcls_digits": 10,
}
# Of the set that scikit-learn brings, which is not in the catalog.
_DIGITS = 1797


class Unread(data.Split):
    """Training images of which only the number and the shape are known."""

    def __init__(self, canvas: c.Canvas, count: int, classes: int):
        self.name, self.canvas = "train", canvas
        self.labels = (np.arange(count) % classes).astype(np.int32)
        self.aspect = np.ones(count, np.float32)
        self.ids = []

    def read(self, indices: Int64[np.ndarray, " b"]) -> UInt[np.ndarray, "b h w c"]:
        """Return black canvases: for parameters that are computed from images, whose shape alone counts here."""
        return np.zeros((len(indices), self.canvas.height, self.canvas.width, self.canvas.channels), self.canvas.dtype)


def unread(config: c.Config, classes: int | None, images: int | None) -> tuple[data.Dataset, int | None]:
    """Make the stand-in of a config's data, and return the number of training images, None where it is not known.

    Args:
      config: the experiment.
      classes: their number; None: that of the catalog set.
      images: number of training images; None: as the catalog and the config's split say.

    Raises:
      UserError: the number of classes is not known.
    """
    source = config.data.source
    name = entries.base_name(source.name) if isinstance(source, c.TFDS) else ""
    classes = classes or _CLASSES.get(name)
    if classes is None:
        raise UserError("no image is read, so the number of classes is not known here: give it, as in --classes 1000")
    count = images or (_count(source, name) if isinstance(source, c.TFDS) else None)
    if count and not images:
        held_out = 1 / config.data.fold[1] if config.data.fold else config.data.validation_share
        if isinstance(source, c.TFDS) and source.validation is None:
            count -= round(count * held_out)
        if isinstance(source, c.TFDS) and source.test is None:
            count -= round(count * config.data.test_share)
    # A schedule needs an epoch of some steps, whatever their number.
    stand_in = Unread(config.data.canvas, max(count or 0, 10 * config.batch_size), classes)
    names = tuple(str(label) for label in range(classes))
    return data.Dataset(stand_in, None, None, names, "0" * 12, []), count


def _count(source: c.TFDS, name: str) -> int | None:
    entry = entries.ENTRIES.get(name)
    known = {"train": _DIGITS} if name == "imgcls_digits" else entry.images if entry else {}
    found = re.fullmatch(r"(\w+)(?:\[(?:(\d+)%)?:(?:(\d+)%)?\])?", source.train)
    if not found or found[1] not in known:
        return None
    return known[found[1]] * (int(found[3] or 100) - int(found[2] or 0)) // 100
