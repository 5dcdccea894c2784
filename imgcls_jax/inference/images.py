"""Images as users have them: files, their bytes, Pillow images and arrays, one or many, decoded as in evaluation."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Float32, UInt

from imgcls_jax import config as c
from imgcls_jax.augment.normalization import prepare_for_evaluation
from imgcls_jax.data.cache import in_order, threads
from imgcls_jax.data.canvas import read as read_canvas
from imgcls_jax.data.decode import UnreadableImageError
from imgcls_jax.errors import UserError

Image = str | PathLike[str] | bytes | PIL.Image.Image | np.ndarray
"""A file, the bytes of one, a Pillow image of any mode, or a uint8 array [h, w], [h, w, 1] (gray), [h, w, 3] (RGB) or
[h, w, 4] (RGB and opacity); for a network of other channels or depths, an array of those, uint8 or uint16."""
Images = Image | Iterable[Image]
"""One image, or several: an iterable of images, or a uint8 array [n, h, w, channels]."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What an image goes through on its way to the network, in this order."""

    canvas: c.Canvas
    """The size to which an image is decoded and resized, and how."""
    image_size: tuple[int, int]
    """Height and width of the center that is cut out of the canvas, pixels."""
    mean: tuple[float, ...]
    """Subtracted from each channel of pixels in [0, 1]."""
    std: tuple[float, ...]
    """By which each channel is divided after that."""

    @classmethod
    def of(cls, data: c.Data) -> "Preprocessing":
        """Give the preprocessing of evaluation images under these data settings."""
        return cls(data.eval_canvas or data.canvas, data.image_size, data.mean, data.std)

    def __call__(self, image: Image) -> Float32[np.ndarray, "h w c"]:
        """Preprocess one image, as float32 pixels.

        Raises:
          UserError: it cannot be read.
        """
        canvas = read(image, self.canvas)
        if isinstance(canvas, UnreadableImageError):
            raise UserError(f"{name(image)} cannot be read as an image: {canvas}")
        prepared = prepare_for_evaluation(
            jnp.asarray(canvas[None]), image_size=self.image_size, mean=self.mean, std=self.std
        )
        return np.asarray(prepared[0])


def is_one(images: Images) -> bool:
    """Tell one image from several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | PathLike | bytes | PIL.Image.Image)


def several(images: Images) -> Iterable[Image]:
    """Give the images one by one, one alone as the first of one."""
    if is_one(images):
        return [cast(Image, images)]
    if isinstance(images, Iterable):
        return cast(Iterable[Image], images)
    raise UserError(
        f"an image is a file, its bytes, a Pillow image or a uint8 array, not {type(images).__name__}: give one, or "
        "a list of them"
    )


def name(image: Image, position: int | None = None) -> str:
    """What messages call an image: its path, or its place among those given."""
    if isinstance(image, str | PathLike):
        return str(image)
    return "the image" if position is None else f"image {position}"


def read(image: Image, canvas: c.Canvas) -> UInt[np.ndarray, "h w c"] | UnreadableImageError:
    """Decode an image and fit it to the canvas; where that cannot be done, return the reason.

    Raises:
      UserError: it is of no kind that holds an image.
    """
    try:
        match image:
            case str() | PathLike():
                return read_canvas(Path(image), canvas)[0]
            case np.ndarray():
                _check(image, canvas)
                if image.shape == (canvas.height, canvas.width, canvas.channels) and image.dtype == canvas.dtype:
                    return image  # it is a canvas
                return read_canvas(image, canvas)[0]
            case bytes() | PIL.Image.Image():
                return read_canvas(image, canvas)[0]
    except UnreadableImageError as error:
        return error
    raise UserError(f"an image is a file, its bytes, a Pillow image or a uint8 array, not {type(image).__name__}")


def check_readable(images: Sequence[Image], canvases: Sequence[Any], first: int) -> None:
    """Raise a UserError for the first image that `read` could not read; `first`: the place of the first of them."""
    for position, (image, canvas) in enumerate(zip(images, canvases, strict=True), start=first):
        if isinstance(canvas, UnreadableImageError):
            raise UserError(f"{name(image, position)} cannot be read as an image: {canvas}")


def readable(batches: Iterable[tuple[list[Image], list[Any]]]) -> Iterator[list[Any]]:
    """Give the canvases of batches of (images, canvases); raise a UserError for the first image that has none."""
    position = 0
    for given, canvases in batches:
        check_readable(given, canvases, position)
        position += len(given)
        yield canvases


def _check(image: np.ndarray, canvas: c.Canvas) -> None:
    if image.dtype != np.uint8 and (image.dtype != np.uint16 or canvas.depth == 8):
        raise UserError(
            f"an image array must hold {canvas.dtype} pixels from 0 to {canvas.white}, not {image.dtype}: convert it "
            "first"
        )
    if not canvas.is_picture:
        return  # its channels are compared with the canvas's when it is read
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,), (4,)):
        raise UserError(
            f"an image array is [height, width] or [height, width, channels] with 1, 3 or 4 channels, not "
            f"{list(image.shape)}"
        )


def read_ahead(images: Iterable[Image], canvas: c.Canvas, *, workers: int, ahead: int) -> Iterator[tuple[Image, Any]]:
    """Decode images in threads, in order; give each with what `read` makes of it.

    Args:
      images: they are taken from the iterable as they are needed.
      canvas: what they are fitted to.
      workers: number of threads; 0: one per core.
      ahead: how many images are decoded before they are asked for.
    """
    with ThreadPoolExecutor(threads(workers), thread_name_prefix="decode") as pool:
        try:
            yield from in_order(pool, lambda image: (image, read(image, canvas)), images, ahead=ahead)
        finally:
            pool.shutdown(cancel_futures=True)
