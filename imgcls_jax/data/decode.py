"""From an encoded image of any kind to one greyscale or RGB Pillow image."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from imgcls_jax.data.source import Encoded

Size = tuple[int, int]
"""Width and height, pixels, as Pillow has them."""

_JPEG = ("JPEG", "MPO")
# EXIF orientations: those that exchange width and height; whose left is the file's right or bottom; whose top is.
_TURNED, _FROM_LEFT, _FROM_TOP = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class Decoded(NamedTuple):
    """An image, upright, perhaps reduced."""

    image: Image.Image
    """Of mode L or RGB."""
    size: Size
    """The original's."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of what `image` shows of the original: the last pixel of a reduced row or column
    stands for more pixels than the original may have."""


class UnreadableImageError(Exception):
    """An image that cannot be used; the message is the reason."""


def decode(encoded: Encoded, channels: int, needed: Callable[[Size], Size] | None = None) -> Decoded:
    """The first frame of `encoded`, upright, as 8-bit greyscale (`channels` 1, ITU-R 601 luma) or RGB (3).

    - EXIF orientation is applied.
    - 16-bit greyscale is divided by 257, so that white stays white (Pillow's own conversion clips at 255).
    - Transparent images are laid on white, the colour of the page that line drawings and logos are made for.
    - CMYK becomes RGB by Pillow's profile-free formula; palettes are looked up.

    Args:
        needed: gives the size that is needed of an upright image by its full size. A JPEG is then decoded at 1/2, 1/4
            or 1/8 of its size if no side is smaller than that: libjpeg computes fewer pixels from each block's cosine
            coefficients. None: at its full size, as images of other formats always are.

    Raises UnreadableImageError with the reason, for whatever is wrong with the image.
    """
    if isinstance(encoded, np.ndarray):
        return _whole(_convert(Image.fromarray(encoded[..., 0] if encoded.shape[2:] == (1,) else encoded), channels))
    try:
        content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
        if not content:
            raise UnreadableImageError("the file is empty (0 bytes)")
        with Image.open(io.BytesIO(content)) as image:
            shown = _reduce(image, needed) if needed is not None and image.format in _JPEG else None
            image.load()
            _turn_upright(image)
            converted = _convert(image, channels)
            return Decoded(converted, *shown) if shown else _whole(converted)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image in a format that Pillow reads") from None
    except Exception as error:  # Pillow's plugins raise SyntaxError, struct.error, EOFError … on damaged files.
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def _whole(image: Image.Image) -> Decoded:
    return Decoded(image, image.size, (0, 0, *image.size))


def _reduce(image: Image.Image, needed: Callable[[Size], Size]) -> tuple[Size, tuple[float, float, float, float]]:
    """Tell libjpeg, before it decodes, by how much it may reduce; gives `Decoded`'s size and box."""
    orientation = 1
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    full = _upright(image.size, orientation)
    room = min(side // least for side, least in zip(full, needed(full), strict=True))
    factor = next((power for power in (8, 4, 2) if power <= room), 1)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    width, height = full[0] / factor, full[1] / factor
    reduced = _upright(image.size, orientation)
    left = reduced[0] - width if orientation in _FROM_LEFT else 0.0
    top = reduced[1] - height if orientation in _FROM_TOP else 0.0
    return full, (left, top, left + width, top + height)


def _upright(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation in _TURNED else size


def _turn_upright(image: Image.Image) -> None:
    # Damaged EXIF data is no reason to lose an image whose pixels are fine.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        image = _from_sixteen_bits(image)
    elif image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range is unknown; store the image with 8 or 16 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert(mode)


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UnreadableImageError("32-bit pixels, whose range is unknown; store the image with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
