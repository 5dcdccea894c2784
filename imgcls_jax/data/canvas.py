"""From an image to the fixed uint8 canvas."""

import functools

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.decode import Decoded, Size, UnreadableImageError, decode
from imgcls_jax.data.source import Encoded

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_RESIZED_PIXELS = 2**27
"""Largest resized image before its centre is cut out; only a needle-shaped image exceeds it."""


def read(encoded: Encoded, canvas: Canvas) -> tuple[UInt8[np.ndarray, "h w c"], float]:
    """The canvas of an encoded image, and its content's aspect (see `content_aspect`).

    The image is resized with Pillow's antialiased filter: "crop" equals torchvision's Resize (of the side that is short
    in relation to the canvas) and CenterCrop, "pad" equals Pillow's ImageOps.pad, "stretch" is Image.resize; an image
    that already fits is left as it is.

    Raises UnreadableImageError with the reason.
    """
    needed = functools.partial(resized_size, canvas=canvas) if canvas.jpeg_decoding == "reduced" else None
    decoded = decode(encoded, canvas.channels, needed)
    return _fit(decoded, canvas), content_aspect(decoded.size, canvas)


def _fit(decoded: Decoded, canvas: Canvas) -> UInt8[np.ndarray, "h w c"]:
    height, width = canvas.height, canvas.width
    fitted = _resize(decoded, canvas)
    if canvas.fit == "crop":
        fitted = _centre_crop(fitted, width, height)
    elif canvas.fit == "pad":
        inner, fitted = fitted, Image.new(fitted.mode, (width, height))
        fitted.paste(inner, (round((width - inner.width) * 0.5), round((height - inner.height) * 0.5)))
    return np.asarray(fitted).reshape(height, width, canvas.channels)


def resized_size(size: Size, canvas: Canvas) -> Size:
    """Width and height to which an image of `size` is resized, before it is cropped or padded."""
    match canvas.fit:
        case "stretch":
            return canvas.width, canvas.height
        case "crop":
            return _covering(size, canvas.width, canvas.height)
        case "pad":
            return _inside(size, canvas.width, canvas.height)


def content_aspect(size: Size, canvas: Canvas) -> float:
    """Width / height of the original image of `size` (w, h), where its canvas shows all of it; for "crop", 1.

    Random crops need it to draw windows in the original's proportions.
    """
    return 1.0 if canvas.fit == "crop" else size[0] / size[1]


def _resize(decoded: Decoded, canvas: Canvas) -> Image.Image:
    image, size, box = decoded
    resized = resized_size(size, canvas)
    if image.size == resized:
        return image
    if resized[0] * resized[1] > _MAX_RESIZED_PIXELS:
        raise UnreadableImageError(f"{size[0]}×{size[1]} pixels are too elongated for the canvas")
    return image.resize(resized, FILTERS[canvas.interpolation], box)


def _covering(size: Size, width: int, height: int) -> Size:
    """Smallest size of the same proportions that covers the canvas; the longer side is rounded down (torchvision)."""
    w, h = size
    if w * height >= h * width:
        return w * height // h, height
    return width, h * width // w


def _inside(size: Size, width: int, height: int) -> Size:
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
