"""Fit an image into a canvas of fixed size, uint8 or uint16."""

import functools

import numpy as np
from jaxtyping import UInt
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import stacks
from imgcls_jax.data.decode import Decoded, Limits, Size, UnreadableImageError, decode
from imgcls_jax.data.examples import Encoded

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_RESIZED_PIXELS = 2**27
"""Largest resized image before its center is cut out; only a needle-shaped image exceeds it."""


def read(encoded: Encoded | Image.Image, canvas: Canvas) -> tuple[UInt[np.ndarray, "h w c"], float]:
    """Decode an image and fit it into a canvas; return the canvas and the aspect of its content (`content_aspect`).

    The image is resized with Pillow's antialiased filter: "crop" equals torchvision's Resize (of the side that is short
    in relation to the canvas) and CenterCrop, "pad" equals Pillow's ImageOps.pad, "stretch" is Image.resize; an image
    that already fits is left as it is.

    Raises:
      UnreadableImageError: the image cannot be used; the message is the reason.
    """
    if not canvas.is_picture:
        pixels = stacks.read(encoded, canvas, limits(canvas))
        size = pixels.shape[0], pixels.shape[1]
        return _fit_channels(pixels, canvas), content_aspect(size, canvas)
    needed = functools.partial(resized_size, canvas=canvas) if canvas.jpeg_decoding == "reduced" else None
    decoded = decode(encoded, canvas.channels, needed, limits(canvas))
    pixels = np.asarray(_fit(decoded, canvas)).reshape(canvas.height, canvas.width, canvas.channels)
    return pixels, content_aspect(decoded.size, canvas)


def limits(canvas: Canvas) -> Limits:
    """Return what one image may cost."""
    return Limits(int(canvas.max_megapixels * 1e6), int(canvas.max_file_mib * 2**20))


def _fit_channels(pixels: UInt[np.ndarray, "H W c"], canvas: Canvas) -> UInt[np.ndarray, "h w c"]:
    """Fit each channel by itself, as Pillow does; 16 bits in floating point, which holds them exactly."""
    if pixels.shape[:2] == (canvas.height, canvas.width):
        return pixels
    fitted = np.empty((canvas.height, canvas.width, canvas.channels), canvas.dtype)
    for channel in range(canvas.channels):
        one = pixels[..., channel]
        image = Image.fromarray(np.ascontiguousarray(one if canvas.depth == 8 else one.astype(np.float32)))
        values = np.asarray(_fit(Decoded(image, pixels.shape[:2], (0, 0, *image.size)), canvas))
        # Bicubic and Lanczos filters overshoot.
        fitted[..., channel] = values if canvas.depth == 8 else np.rint(values).clip(0, canvas.white)
    return fitted


def _fit(decoded: Decoded, canvas: Canvas) -> Image.Image:
    height, width = canvas.height, canvas.width
    fitted = _resize(decoded, canvas)
    if canvas.fit == "crop":
        fitted = _center_crop(fitted, (height, width))
    elif canvas.fit == "pad":
        inner, fitted = fitted, Image.new(fitted.mode, (width, height))
        fitted.paste(inner, (round((width - inner.width) * 0.5), round((height - inner.height) * 0.5)))
    return fitted


def resized_size(size: Size, canvas: Canvas) -> Size:
    """Compute the size to which an image of `size` is resized, before it is cropped or padded."""
    target = canvas.height, canvas.width
    match canvas.fit:
        case "stretch":
            return target
        case "crop":
            return _covering(size, target)
        case "pad":
            return _inside(size, target)


def content_aspect(size: Size, canvas: Canvas) -> float:
    """Compute width / height of an original image of `size`, where its canvas shows all of it; for "crop", 1.

    Random crops need it to draw windows in the original's proportions.
    """
    return 1.0 if canvas.fit == "crop" else size[1] / size[0]


def _resize(decoded: Decoded, canvas: Canvas) -> Image.Image:
    image, size, box = decoded
    resized = resized_size(size, canvas)
    height, width = resized
    if image.size == (width, height):
        return image
    if height * width > _MAX_RESIZED_PIXELS:
        raise UnreadableImageError(f"{size[1]}×{size[0]} pixels are too elongated for the canvas")
    return image.resize((width, height), FILTERS[canvas.interpolation], box)


def _covering(size: Size, target: Size) -> Size:
    """Return the smallest size of the same proportions that covers `target`; the longer side is rounded down, as by
    torchvision."""
    (h, w), (height, width) = size, target
    if w * height >= h * width:
        return height, w * height // h
    return h * width // w, width


def _inside(size: Size, target: Size) -> Size:
    """Return the largest size of the same proportions that fits into `target` (ImageOps.contain)."""
    (h, w), (height, width) = size, target
    if w * height >= h * width:
        return max(1, round(h / w * width)), width
    return height, max(1, round(w / h * height))


def _center_crop(image: Image.Image, size: Size) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
