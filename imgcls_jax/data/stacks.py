"""Decode images of any number of channels, of 8 or 16 bits: arrays, .npy files, pages and bands of image files."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt
from PIL import Image, ImageSequence

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import arrays, image_formats
from imgcls_jax.data.decode import (
    BITS_PER_SAMPLE,
    SIXTEEN_BIT,
    Limits,
    UnreadableImageError,
    array,
    contents,
    convert,
    reasons,
    sixteen_bits,
    turn_upright,
)
from imgcls_jax.data.examples import Encoded

# PNG: where its header has the bits per channel and the kind of color, and the kinds of several channels.
_PNG, _PNG_BITS, _PNG_COLOR, _COLORS = b"\x89PNG\r\n\x1a\n", 24, 25, (2, 4, 6)
_BANDS = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "CMYK", "LA": "LA"}


def read(encoded: Encoded | Image.Image, canvas: Canvas, limits: Limits) -> UInt[np.ndarray, "h w c"]:
    """Decode all channels of an image, upright, as the canvas's type: uint8 or uint16, black to white.

    - Arrays and .npy files have the canvas's channels (`arrays.read`).
    - The pages of a TIFF stack, in order, each give their channels: gray one, RGB three, RGBA and CMYK four.
    - Other images give those of their first frame; a single page or frame is converted to a gray or RGB canvas.
    - Depths are scaled, to the nearest value: 8 bits to 16 exactly, 12 bits by 65535 / 4095.

    Raises:
      UnreadableImageError: it cannot be used, or has another number of channels; the message is the reason.
    """
    with reasons():
        pixels = _pixels(encoded, canvas, limits)
    if (found := pixels.shape[2]) != canvas.channels:
        raise UnreadableImageError(
            f"{found} channel{'s'[: found > 1]}, not the {canvas.channels} of data.canvas.channels"
        )
    return arrays.scaled(pixels, canvas.white)


def _pixels(encoded: Encoded | Image.Image, canvas: Canvas, limits: Limits) -> UInt[np.ndarray, "h w c"]:
    if isinstance(encoded, np.ndarray):
        return encoded if encoded.ndim == 3 else encoded[..., None]
    if isinstance(encoded, Image.Image):
        return _of_frame(encoded.copy(), canvas.channels)
    content = contents(encoded, limits)
    if arrays.is_array(content):
        return array(content, limits)
    if content.startswith(_PNG) and len(content) > _PNG_COLOR:
        _refuse_lost_bits(content[_PNG_BITS] if content[_PNG_COLOR] in _COLORS else 0, canvas)
    with image_formats.opened(content, limits.pixels) as image:
        return np.concatenate(list(_pages(image, canvas, limits)), axis=2)


def _pages(image: Image.Image, canvas: Canvas, limits: Limits) -> Iterator[UInt[np.ndarray, "h w c"]]:
    """The channels of each page of a TIFF, or of the first frame; all pages together keep the limit on pixels."""
    shape, pixels, channels = None, 0, 0
    is_stack = _is_stack(image)
    for page in ImageSequence.Iterator(image) if is_stack else [image]:
        pixels += page.width * page.height
        if pixels > limits.pixels:
            raise UnreadableImageError(
                f"{pixels:,} pixels in {channels + 1} pages exceed the {limits.pixels / 1e6:g} megapixels of "
                "data.canvas.max_megapixels"
            )
        with image_formats.large(page, limits.pixels):
            page.load()
        turn_upright(page)
        if page.format == "TIFF" and page.mode not in SIXTEEN_BIT:
            _refuse_lost_bits(max(getattr(page, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))), canvas)
        found = _of_frame(page, None if is_stack else canvas.channels)
        if shape not in (None, found.shape[:2]):
            raise UnreadableImageError(
                f"pages of {shape[1]}×{shape[0]} and {found.shape[1]}×{found.shape[0]} pixels: those of a stack are of "
                "one size"
            )
        shape, channels = found.shape[:2], channels + found.shape[2]
        if channels > arrays.MOST_CHANNELS:
            raise UnreadableImageError(f"more than {arrays.MOST_CHANNELS} channels in its pages")
        yield found


def _is_stack(image: Image.Image) -> bool:
    """Whether a file is a TIFF of several pages; they are not counted, as there may be very many."""
    if image.format != "TIFF":
        return False
    try:
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True


def _of_frame(image: Image.Image, channels: int | None) -> UInt[np.ndarray, "h w c"]:
    """The channels of an image: as it has them, or gray or RGB where `channels` asks for these."""
    if image.mode in SIXTEEN_BIT or image.mode == "I":
        values, white = sixteen_bits(image)
        return arrays.scaled(values, 65535, white)[..., None].repeat(3 if channels == 3 else 1, axis=2)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range is unknown; store them as .npy, from 0 to 1")
    if channels in (1, 3):
        pixels = np.asarray(convert(image, channels))
    elif image.mode in _BANDS:
        pixels = np.asarray(image.convert(_BANDS[image.mode]))
    else:
        raise UnreadableImageError(f"channels of the kind {image.mode}, which are not read here")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _refuse_lost_bits(bits: int, canvas: Canvas) -> None:
    """Pillow reads several channels of 16 bits as 8."""
    if bits > 8 and canvas.depth > 8:
        raise UnreadableImageError(
            f"several channels of {bits} bits in one page, of which 8 would be read; store them as .npy, or each as a "
            "page of a TIFF"
        )
