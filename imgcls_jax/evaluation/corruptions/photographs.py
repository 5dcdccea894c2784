"""Read the benchmark's photographs of frost from the package `imagecorruptions`, which is not imported."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imgcls_jax.errors import UserError

# The package has a sixth, frost6.jpg, which the published code draws from `np.random.randint(5)` and never uses.
_NAMES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_STRIDE = 5
"""OpenCV's reduction to a fifth, without smoothing, takes every fifth pixel."""

Photograph = UInt8[np.ndarray, "_ _ 3"]


def folder() -> Path | None:
    """Return the folder of the photographs; None where the package is not installed."""
    spec = importlib.util.find_spec("imagecorruptions")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) / "frost" if places else None


def frost(h: int, w: int) -> tuple[Photograph, ...] | None:
    """Return the five photographs, at the size at which crops of h × w pixels are taken from them.

    A fifth of their size, as published for 32 × 32 pixels; for larger crops, as much more as these need.

    Returns:
      RGB, each side longer than the crop's; None where the package `imagecorruptions` is not installed.

    Raises:
      UserError: a photograph of the installed package cannot be read.
    """
    place = folder()
    return None if place is None else tuple(_fitting(photograph, h, w) for photograph in _read(place))


@functools.cache
def _read(place: Path) -> tuple[Photograph, ...]:
    photographs = []
    for name in _NAMES:
        try:
            with Image.open(place / name) as image:
                photographs.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise UserError(
                f"{place / name} of the installed package imagecorruptions cannot be read ({error}): install it again"
            ) from None
    return tuple(photographs)


def _fitting(photograph: Photograph, h: int, w: int) -> Photograph:
    for stride in range(_STRIDE, 0, -1):
        reduced = photograph[stride // 2 :: stride, stride // 2 :: stride]
        if reduced.shape[0] > h and reduced.shape[1] > w:
            return reduced
    factor = 1.1 * max(h / photograph.shape[0], w / photograph.shape[1])
    height, width = (int(np.ceil(side * factor)) for side in photograph.shape[:2])
    return np.asarray(Image.fromarray(photograph).resize((width, height), Image.Resampling.BICUBIC))
