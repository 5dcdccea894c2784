"""From an encoded image of any kind to one greyscale or RGB Pillow image."""

import contextlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from imgcls_jax.data.source import Encoded

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImageError(Exception):
    """An image that cannot be used; the message is the reason."""


def decode(encoded: Encoded, channels: int) -> Image.Image:
    """The first frame of `encoded`, upright, as 8-bit greyscale (`channels` 1, ITU-R 601 luma) or RGB (3).

    - EXIF orientation is applied.
    - 16-bit greyscale is divided by 257, so that white stays white (Pillow's own conversion clips at 255).
    - Transparent images are laid on white, the colour of the page that line drawings and logos are made for.
    - CMYK becomes RGB by Pillow's profile-free formula; palettes are looked up.

    Raises UnreadableImageError with the reason, for whatever is wrong with the image.
    """
    if isinstance(encoded, np.ndarray):
        return _convert(Image.fromarray(encoded[..., 0] if encoded.shape[2:] == (1,) else encoded), channels)
    try:
        content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
        if not content:
            raise UnreadableImageError("the file is empty (0 bytes)")
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            _turn_upright(image)
            return _convert(image, channels)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image in a format that Pillow reads") from None
    except Exception as error:  # Pillow's plugins raise SyntaxError, struct.error, EOFError … on damaged files.
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


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
