"""From a decoded image to the fixed uint8 canvas."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.decode import UnreadableImageError

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_RESIZED_PIXELS = 2**27
"""Largest resized image before its centre is cut out; only a needle-shaped image exceeds it."""


def fit(image: Image.Image, canvas: Canvas) -> UInt8[np.ndarray, "h w c"]:
    """`image` (mode L or RGB) resized to the canvas with Pillow's antialiased filter.

    "crop" equals torchvision's Resize (of the side that is short in relation to the canvas) and CenterCrop, "pad"
    equals Pillow's ImageOps.pad, "stretch" is Image.resize; an image that already fits is returned as it is.
    """
    height, width = canvas.height, canvas.width
    match canvas.fit:
        case "stretch":
            fitted = _resize(image, width, height, canvas)
        case "crop":
            fitted = _centre_crop(_resize(image, *_covering(image.size, width, height), canvas), width, height)
        case "pad":
            inner = _resize(image, *_inside(image.size, width, height), canvas)
            fitted = Image.new(image.mode, (width, height))
            fitted.paste(inner, (round((width - inner.width) * 0.5), round((height - inner.height) * 0.5)))
    return np.asarray(fitted).reshape(height, width, canvas.channels)


def content_aspect(size: tuple[int, int], canvas: Canvas) -> float:
    """Width / height of the original image of `size` (w, h), where its canvas shows all of it; for "crop", 1.

    Random crops need it to draw windows in the original's proportions.
    """
    return 1.0 if canvas.fit == "crop" else size[0] / size[1]


def _resize(image: Image.Image, width: int, height: int, canvas: Canvas) -> Image.Image:
    if image.size == (width, height):
        return image
    if width * height > _MAX_RESIZED_PIXELS:
        raise UnreadableImageError(f"{image.width}×{image.height} pixels are too elongated for the canvas")
    return image.resize((width, height), FILTERS[canvas.interpolation])


def _covering(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Smallest size of the same proportions that covers the canvas; the longer side is rounded down (torchvision)."""
    w, h = size
    if w * height >= h * width:
        return w * height // h, height
    return width, h * width // w


def _inside(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Largest size of the same proportions that fits into the canvas (ImageOps.contain)."""
    w, h = size
    if w * height >= h * width:
        return width, max(1, round(h / w * width))
    return max(1, round(w / h * height)), height


def _centre_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
