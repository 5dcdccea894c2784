"""Put small images and lines of text into one picture."""

import numpy as np
from jaxtyping import UInt, UInt8
from PIL import Image, ImageDraw, ImageFont

from imgcls_jax.display import fonts

SMALLEST = 96
"""Images whose longer side is below this, in pixels, are enlarged by a whole factor, pixel by pixel."""
LINE = 14
"""Height of a line of text, pixels."""
_FONT_SIZE = 11


def factor(sides: tuple[int, ...]) -> int:
    """Return by how much an image of these sides is enlarged; 1 where it is large enough to be seen.

    >>> factor((8, 8)), factor((32, 24)), factor((224, 224))
    (12, 3, 1)
    """
    return -(-SMALLEST // max(sides))


def shown(image: UInt[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as RGB of 8 bits: one channel is gray; of two the first is, of more the first three are colors.

    >>> shown(np.full((1, 1, 5), 65535, np.uint16))[0, 0].tolist()
    [255, 255, 255]
    """
    colors = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    eight = colors if colors.dtype == np.uint8 else (colors >> 8 * (colors.dtype.itemsize - 1)).astype(np.uint8)
    return np.broadcast_to(eight, (*image.shape[:2], 3))


def enlarged(image: UInt[np.ndarray, "h w c"], times: int) -> Image.Image:
    """Return an RGB image as `shown`, every pixel of it a square of `times` pixels."""
    pixels = shown(image)
    return Image.fromarray(pixels.repeat(times, 0).repeat(times, 1))


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width: int,
    *,
    color: str = "black",
    keep_end: bool = False,
) -> None:
    """Write a line of text whose left upper corner is `place`, cut off with an ellipsis where it is wider than `width`.

    Args:
      draw: of the picture.
      place: (x, y), pixels.
      text: in any script; what no installed font has is written as an escape.
      width: pixels.
      color: a name that Pillow knows.
      keep_end: cut off the beginning instead of the end, as is useful for paths.
    """
    font, drawable = fonts.for_pillow(text, _FONT_SIZE)
    draw.text(place, _fit(draw, font, drawable, width, keep_end), fill=color, font=font)


def _fit(
    draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str, width: int, keep_end: bool
) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text:
        text = text[1:] if keep_end else text[:-1]
        shown = f"…{text}" if keep_end else f"{text}…"
        if draw.textlength(shown, font=font) <= width:
            return shown
    return "…"
