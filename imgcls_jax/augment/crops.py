"""Crops: random windows, resized windows, and the center; and smaller images for some of the epochs. They only decide
which pixels are taken (`LazyImage`)."""

import functools
import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt
from pydantic import Field

from imgcls_jax import config as c
from imgcls_jax.augment.draws import below, each
from imgcls_jax.augment.lazy_image import LazyImage, to_unit
from imgcls_jax.augment.windows import Window, draw_shapes
from imgcls_jax.config.augment import Range, ShareRange
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize

Padding = Literal["zero", "reflect"]


class PadCrop(c.Crop):
    """Pad every side, then cut out a random window of `Data.image_size`."""

    padding: Annotated[int, Field(gt=0)]
    """Pixels added on each side."""
    mode: Padding = "zero"
    """What is added: "zero": black; "reflect": the image, mirrored at its border pixels."""

    def transform(self, keys: Key[Array, "b"], lazy: LazyImage, batch: c.BatchInfo) -> LazyImage:
        top, left = each(draw_crop, keys, self._padded(lazy.size), batch.image_size)
        return crop(lazy, top, left, batch.image_size, padding=self.padding, mode=self.mode)

    def check(self, context: c.CheckContext) -> None:
        if self.mode == "reflect" and self.padding >= min(context.size):
            raise UserError(f"reflects {self.padding} pixels, but the image has only {_pixels(context.size)}: pad less")
        padded = self._padded(context.size)
        if _exceeds(context.image_size, padded):
            raise UserError(
                f"pads the image to {_pixels(padded)}, which data.image_size {_pixels(context.image_size)} exceeds: "
                "enlarge data.canvas or shrink data.image_size"
            )

    def _padded(self, size: Size) -> Size:
        return size[0] + 2 * self.padding, size[1] + 2 * self.padding


class RandomCrop(c.Crop):
    """Cut a random window of `Data.image_size` out of the canvas."""

    def transform(self, keys: Key[Array, "b"], lazy: LazyImage, batch: c.BatchInfo) -> LazyImage:
        return crop(lazy, *each(draw_crop, keys, lazy.size, batch.image_size), batch.image_size)

    def check(self, context: c.CheckContext) -> None:
        if _exceeds(context.image_size, context.size):
            raise UserError(
                f"cannot cut out a window: data.image_size {_pixels(context.image_size)} exceeds the canvas, "
                f"{_pixels(context.size)}: enlarge data.canvas or shrink data.image_size"
            )
        if context.size == context.image_size:
            raise UserError(f"changes nothing: the canvas is as large as data.image_size, {_pixels(context.size)}")


class RandomResizedCrop(c.Crop):
    """Cut out a window of random area and aspect ratio, and resize it to `Data.image_size` (torchvision's)."""

    scale: ShareRange = (0.08, 1.0)
    """Least and greatest share of the image's area."""
    ratio: Range = (3 / 4, 4 / 3)
    """Least and greatest width / height of the window, in the original image's pixels."""

    def transform(self, keys: Key[Array, "b"], lazy: LazyImage, batch: c.BatchInfo) -> LazyImage:
        content, aspect = content_of(batch.fit, lazy.size, batch.aspect)
        draw = functools.partial(draw_resized_crop, scale=self.scale, ratio=self.ratio)
        return resized_crop(lazy, materialize(jax.vmap(draw)(keys, content, aspect)), batch.image_size)


class Shrink(c.Augmentation):
    """Resize what enters the model to fewer pixels, for the epochs in which it runs (progressive resizing).

    An epoch then takes less time, about in proportion to its pixels. It runs after everything but a mix. The model must
    take images of both sizes, as those do that average over places before their head; each phase compiles a step of its
    own. Validation and test images keep `Data.image_size`.
    """

    size: Size
    """Height and width, pixels; smaller than `Data.image_size`."""

    def transform(self, keys: Key[Array, "b"], lazy: LazyImage, batch: c.BatchInfo) -> LazyImage:
        lazy = center_crop(lazy, batch.image_size)
        top = jnp.zeros(len(keys), jnp.int32)
        height, width = (jnp.full_like(top, side) for side in batch.image_size)
        return resized_crop(lazy, Window(top, top, height, width), self.size)

    def check(self, context: c.CheckContext) -> None:
        if _exceeds(self.size, context.image_size) or self.size == context.image_size:
            raise UserError(
                f"has size={_pixels(self.size)}, which must be smaller than data.image_size "
                f"{_pixels(context.image_size)}"
            )


# ---- windows of the canvas's own scale ------------------------------------------------------------------------------


def draw_crop(key: Key[Array, ""], canvas: Size, size: Size) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Draw top and left of a window of `size`, uniform over all that lie within `canvas` (padding included)."""
    top, left = jax.random.uniform(key, (2,))
    return below(top, canvas[0] - size[0] + 1), below(left, canvas[1] - size[1] + 1)


def crop(
    lazy: LazyImage,
    top: Int[Array, "b"],
    left: Int[Array, "b"],
    size: Size,
    *,
    padding: int = 0,
    mode: Padding = "zero",
) -> LazyImage:
    """Cut the window of `size` at (`top`, `left`) out of each image padded by `padding` pixels on every side.

    "reflect" mirrors without repeating the border pixel (numpy's "reflect"), so `padding` < H and W.
    """
    rows = top[:, None] - padding + jnp.arange(size[0])
    columns = left[:, None] - padding + jnp.arange(size[1])
    if mode == "reflect":
        rows, columns = _reflect(rows, lazy.size[0]), _reflect(columns, lazy.size[1])
    return lazy._replace(rows=lazy.rows.select(rows), columns=lazy.columns.select(columns))


def center_crop(lazy: LazyImage, size: Size) -> LazyImage:
    """Cut out the center, with torchvision's rounding: a start between two pixels goes to the even one.

    Raises:
      ValueError: `size` exceeds the images.
    """
    top, left = _center_of(lazy.size, size)
    return lazy._replace(rows=lazy.rows.cut(top, size[0]), columns=lazy.columns.cut(left, size[1]))


def center(image: UInt[Array, "b H W c"], size: Size) -> Float[Array, "b h w c"]:
    """Cut out the center of each image, as float32 in [0, 1]; see `center_crop`.

    Raises:
      ValueError: `size` exceeds the images.
    """
    top, left = _center_of(image.shape[1:3], size)
    stop = image.shape[0], top + size[0], left + size[1], image.shape[3]
    return to_unit(jax.lax.slice(image, (0, top, left, 0), stop), image.dtype)


def _center_of(whole: Size, size: Size) -> tuple[int, int]:
    (height, width), (rows, columns) = whole, size
    if rows > height or columns > width:
        raise ValueError(f"cannot cut {rows}×{columns} out of {height}×{width}")
    return round((height - rows) / 2), round((width - columns) / 2)


def _reflect(position: Int[Array, "*b"], size: int) -> Int[Array, "*b"]:
    """Mirror positions beyond the border at the border pixel's center."""
    return (size - 1) - jnp.abs((size - 1) - jnp.abs(position))


# ---- resized windows ------------------------------------------------------------------------------------------------


def content_of(fit: str, canvas: Size, aspect: Float[Array, "b"]) -> tuple[Window, Float[Array, "b"]]:
    """Find the part of each canvas that shows its image, and the width / height of what it shows.

    Args:
      fit: `Canvas.fit`.
      canvas: height and width of the canvases.
      aspect: width / height of the original images.
    """
    height, width = (jnp.full(aspect.shape, side) for side in canvas)
    if fit == "crop":  # `aspect` is that of the original; what the crop left of it has the canvas's
        aspect = jnp.full(aspect.shape, canvas[1] / canvas[0])
    if fit == "pad":  # the bars are on both sides
        width = jnp.clip(jnp.round(canvas[0] * aspect).astype(jnp.int32), 1, width)
        height = jnp.clip(jnp.round(canvas[1] / aspect).astype(jnp.int32), 1, height)
    top, left = (
        jnp.round((side - extent) / 2).astype(jnp.int32) for side, extent in zip(canvas, (height, width), strict=True)
    )
    return Window(top, left, height, width), aspect


def draw_resized_crop(
    key: Key[Array, ""],
    content: Window,
    aspect: Float[Array, ""],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Window:
    """Draw a window as torchvision's RandomResizedCrop.get_params, on a canvas whose pixels need not be square.

    Args:
      content: part of the canvas that shows the original image, integers.
      aspect: width / height of the original image, to which `ratio` (width / height of the window) refers.
      scale: least and greatest share of the content's area.
      ratio: least and greatest width / height.

    Returns:
      A window inside `content`: the first of ten draws that fits, else the largest centered one of allowed ratio.
    """
    area, ratios, (y, x) = draw_shapes(key, scale, ratio)
    widths = jnp.round(content.width * jnp.sqrt(area * ratios / aspect)).astype(jnp.int32)
    heights = jnp.round(content.height * jnp.sqrt(area / ratios * aspect)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= content.width) & (heights > 0) & (heights <= content.height)

    drawn, found = jnp.argmax(fits), jnp.any(fits)
    all_width = jnp.round(content.width * jnp.minimum(1, ratio[1] / aspect)).astype(jnp.int32)
    all_height = jnp.round(content.height * jnp.minimum(1, aspect / ratio[0])).astype(jnp.int32)
    width = jnp.where(found, widths[drawn], all_width)
    height = jnp.where(found, heights[drawn], all_height)
    spare_y, spare_x = content.height - height, content.width - width
    top = jnp.where(found, below(y, spare_y + 1), spare_y // 2)
    left = jnp.where(found, below(x, spare_x + 1), spare_x // 2)
    return Window(content.top + top, content.left + left, height, width)


def resized_crop(lazy: LazyImage, window: Window, size: Size) -> LazyImage:
    """Resize each image's window to `size`: triangle filter, widened when it shrinks (Pillow's BILINEAR, antialiased).

    The filter sees nothing outside the window, as if it had been cut out first.
    """
    lazy = lazy.unweighted()
    height, width = lazy.size
    return lazy._replace(
        rows=lazy.rows.sums(*_taps(window.top, window.height, height, size[0])),
        columns=lazy.columns.sums(*_taps(window.left, window.width, width, size[1])),
    )


def _taps(
    start: Int[Array, "b"], extent: Int[Array, "b"], canvas: int, size: int
) -> tuple[Int[Array, "b {size} k"], Float[Array, "b {size} k"]]:
    """Find input positions and weights along one axis. k is what the greatest possible reduction needs."""
    reduction = extent / size
    radius = jnp.maximum(reduction, 1.0)[:, None]
    center = start[:, None] + (jnp.arange(size) + 0.5) * reduction[:, None]
    first = jnp.ceil(center - radius - 0.5).astype(jnp.int32)
    positions = first[..., None] + jnp.arange(math.ceil(2 * max(canvas / size, 1.0)))
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(positions + 0.5 - center[..., None]) / radius[..., None])
    inside = (positions >= start[:, None, None]) & (positions < (start + extent)[:, None, None])
    weights = jnp.where(inside, weights, 0.0)
    return jnp.clip(positions, 0, canvas - 1), weights / weights.sum(axis=-1, keepdims=True)


def _exceeds(size: Size, available: Size) -> bool:
    return size[0] > available[0] or size[1] > available[1]


def _pixels(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
