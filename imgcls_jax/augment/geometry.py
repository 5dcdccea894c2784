"""Flips, crops, rotation and affine maps of a batch.

Flips, crops and the resized crop only change what a `View` is made of. Parameters are drawn for one image (`jax.vmap`
them) and applied to a batch, so that each map can be compared with a reference under the same parameters. Coordinates
are pixel indices: the centre of the top left pixel is (0, 0).
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from imgcls_jax.augment.materialise import materialise
from imgcls_jax.augment.view import Size, View, look_up

Padding = Literal["zero", "reflect"]
Interpolation = Literal["nearest", "bilinear"]

ATTEMPTS = 10
"""Windows that random resized crop and random erasing draw before they give up, as in torchvision."""


class Window(NamedTuple):
    """The pixels [top, top + height) × [left, left + width); each field an int32 array of one shape."""

    top: Int[Array, "*b"]
    left: Int[Array, "*b"]
    height: Int[Array, "*b"]
    width: Int[Array, "*b"]

    def mask(self, size: Size) -> Bool[Array, "*b h w"]:
        """True inside the window, on images of `size`."""
        rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
        top, left, height, width = (side[..., None, None] for side in self)
        return (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)


class Affine(NamedTuple):
    """torchvision's parameters of `affine`: angles in degrees (clockwise), shifts in pixels."""

    angle: Float[Array, "*b"]
    shift_x: Float[Array, "*b"]
    shift_y: Float[Array, "*b"]
    scale: Float[Array, "*b"]
    shear_x: Float[Array, "*b"]
    shear_y: Float[Array, "*b"]


def between(unit: Float[Array, "*b"], low: float, high: float) -> Float[Array, "*b"]:
    """[0, 1) → [low, high), exactly `low` where both are equal."""
    return low + unit * (high - low)


def below(unit: Float[Array, "*b"], count: int | Int[Array, "*b"]) -> Int[Array, "*b"]:
    """[0, 1) → 0 … count − 1, each equally likely (to 2⁻²³)."""
    return jnp.minimum(jnp.floor(unit * count).astype(jnp.int32), count - 1)


# ---- flips ----------------------------------------------------------------------------------------------------------


def mirror(view: View, chosen: Bool[Array, "b"]) -> View:
    """Left becomes right where `chosen`."""
    return view._replace(columns=view.columns.reverse().where(chosen, view.columns))


def upside_down(view: View, chosen: Bool[Array, "b"]) -> View:
    """Top becomes bottom where `chosen`."""
    return view._replace(rows=view.rows.reverse().where(chosen, view.rows))


def alternating_flip(index: Int[Array, "b"], epoch: Int[Array, ""]) -> Bool[Array, "b"]:
    """Whether each example is mirrored: at random in epoch 0, then the other way round every epoch.

    The random bit is a hash of the example's `index` in its split, so that any order and any resumption agree.
    Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", listing 2. The hash is the finaliser of
    MurmurHash3 (public domain).
    """
    bits = index.astype(jnp.uint32) + jnp.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    bits = bits ^ (bits >> 16)
    return ((bits ^ jnp.asarray(epoch).astype(jnp.uint32)) & 1).astype(bool)


# ---- crops ----------------------------------------------------------------------------------------------------------


def draw_crop(key: Key[Array, ""], canvas: Size, size: Size) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Top and left of a window of `size`, uniform over all that lie within `canvas` (padding included)."""
    top, left = jax.random.uniform(key, (2,))
    return below(top, canvas[0] - size[0] + 1), below(left, canvas[1] - size[1] + 1)


def crop(
    view: View, top: Int[Array, "b"], left: Int[Array, "b"], size: Size, *, padding: int = 0, mode: Padding = "zero"
) -> View:
    """The window of `size` at (`top`, `left`) of the image padded by `padding` pixels on every side.

    "reflect" mirrors without repeating the border pixel (numpy's "reflect"), so `padding` < H and W.
    """
    rows = top[:, None] - padding + jnp.arange(size[0])
    columns = left[:, None] - padding + jnp.arange(size[1])
    if mode == "reflect":
        rows, columns = _reflect(rows, view.size[0]), _reflect(columns, view.size[1])
    return view._replace(rows=view.rows.select(rows), columns=view.columns.select(columns))


def centre_crop(view: View, size: Size) -> View:
    """The centre, with torchvision's rounding: a start between two pixels goes to the even one.

    Raises:
        ValueError: `size` exceeds the view.
    """
    height, width = view.size
    if size[0] > height or size[1] > width:
        raise ValueError(f"cannot cut {size[0]}×{size[1]} out of {height}×{width}")
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return view._replace(rows=view.rows.cut(top, size[0]), columns=view.columns.cut(left, size[1]))


def draw_resized_crop(
    key: Key[Array, ""],
    content: Window,
    aspect: Float[Array, ""],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Window:
    """torchvision's RandomResizedCrop.get_params, on a canvas whose pixels need not be square.

    Args:
        content: part of the canvas that shows the original image, integers.
        aspect: width / height of the original image, to which `ratio` (width / height of the window) refers.
        scale: least and greatest share of the content's area.

    Returns:
        A window inside `content`: the first of ten draws that fits, else the largest centred one of allowed ratio.
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


def draw_shapes(
    key: Key[Array, ""], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Float[Array, "attempts"], Float[Array, "attempts"], Float[Array, "2"]]:
    """Areas, uniform in `scale`; ratios, log-uniform in `ratio`; and a place in [0, 1)²."""
    # One call: each call of jax.random adds about half a second of compilation on a CPU.
    area, ratios, place = jnp.split(jax.random.uniform(key, (2 * ATTEMPTS + 2,)), (ATTEMPTS, 2 * ATTEMPTS))
    return between(area, *scale), jnp.exp(between(ratios, math.log(ratio[0]), math.log(ratio[1]))), place


def resized_crop(view: View, window: Window, size: Size) -> View:
    """Each image's window resized to `size`: triangle filter, widened when it shrinks (Pillow's BILINEAR, antialiased).

    The filter sees nothing outside the window, as if it had been cut out first.
    """
    if view.is_weighted:
        view = View.of(materialise(view.pixels()))
    height, width = view.size
    return view._replace(
        rows=view.rows.sums(*_taps(window.top, window.height, height, size[0])),
        columns=view.columns.sums(*_taps(window.left, window.width, width, size[1])),
    )


def _taps(
    start: Int[Array, "b"], extent: Int[Array, "b"], canvas: int, size: int
) -> tuple[Int[Array, "b size k"], Float[Array, "b size k"]]:
    """Input positions and weights along one axis. k is what the greatest possible reduction needs."""
    reduction = extent / size
    radius = jnp.maximum(reduction, 1.0)[:, None]
    centre = start[:, None] + (jnp.arange(size) + 0.5) * reduction[:, None]
    first = jnp.ceil(centre - radius - 0.5).astype(jnp.int32)
    positions = first[..., None] + jnp.arange(math.ceil(2 * max(canvas / size, 1.0)))
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(positions + 0.5 - centre[..., None]) / radius[..., None])
    inside = (positions >= start[:, None, None]) & (positions < (start + extent)[:, None, None])
    weights = jnp.where(inside, weights, 0.0)
    return jnp.clip(positions, 0, canvas - 1), weights / weights.sum(axis=-1, keepdims=True)


# ---- rotation and affine maps ---------------------------------------------------------------------------------------


def draw_affine(
    key: Key[Array, ""],
    size: Size,
    *,
    degrees: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
) -> Affine:
    """torchvision's RandomAffine.get_params for images of `size`; shifts are whole pixels, the shear is horizontal."""
    angle, shift_x, shift_y, factor, shear_x = jax.random.uniform(key, (5,))
    return Affine(
        angle=between(angle, -degrees, degrees),
        shift_x=jnp.round(between(shift_x, -translate[0] * size[1], translate[0] * size[1])),
        shift_y=jnp.round(between(shift_y, -translate[1] * size[0], translate[1] * size[0])),
        scale=between(factor, *scale),
        shear_x=between(shear_x, -shear, shear),
        shear_y=jnp.zeros(()),
    )


def affine_matrix(params: Affine, *, about: tuple[Array | float, Array | float] = (0.0, 0.0)) -> Float[Array, "*b 2 3"]:
    """Inverse map of torchvision's `affine`: (x, y, 1) of an output pixel → (x, y) of the input, from the centre.

    Args:
        about: the fixed point (x, y), pixels from the image's centre.
    """
    angle, shear_x, shear_y = (jnp.deg2rad(a) for a in (params.angle, params.shear_x, params.shear_y))
    a = jnp.cos(angle - shear_y) / jnp.cos(shear_y)
    b = -(a * jnp.tan(shear_x) + jnp.sin(angle))
    c = jnp.sin(angle - shear_y) / jnp.cos(shear_y)
    d = jnp.cos(angle) - c * jnp.tan(shear_x)
    # [[a, b], [c, d]] has determinant 1: a rotation times shears.
    xx, xy, yx, yy = d / params.scale, -b / params.scale, -c / params.scale, a / params.scale
    x, y = about[0] + params.shift_x, about[1] + params.shift_y
    rows = [[xx, xy, about[0] - xx * x - xy * y], [yx, yy, about[1] - yx * x - yy * y]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_matrix(angle: Float[Array, "*b"]) -> Float[Array, "*b 2 3"]:
    """Inverse map of a rotation by `angle` degrees, counter-clockwise, about the centre."""
    zero = jnp.zeros_like(angle)
    return affine_matrix(Affine(-angle, zero, zero, jnp.ones_like(angle), zero, zero))


def warp(
    image: Float[Array, "b h w c"],
    matrix: Float[Array, "b 2 3"],
    *,
    fill: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Float[Array, "b h w c"]:
    """Every output pixel looks up the input at `matrix` · (x, y, 1), both measured from the image's centre.

    Outside the image all is `fill`, and "bilinear" blends the border pixels with it. (torchvision's tensor kernel
    weighs that blend twice, Pillow does not blend; they differ from this at the border only.)
    """
    height, width = image.shape[1:3]
    y, x = jnp.arange(height)[:, None] - (height - 1) / 2, jnp.arange(width)[None, :] - (width - 1) / 2
    m = materialise(matrix)[:, :, :, None, None]
    # One pixel outside, all is fill already; the clip keeps the conversion to integers defined.
    columns = jnp.clip(m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2] + (width - 1) / 2, -1, width)
    rows = jnp.clip(m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2] + (height - 1) / 2, -1, height)
    if interpolation == "nearest":
        # Not once a channel.
        rows, columns = materialise((jnp.round(rows).astype(jnp.int32), jnp.round(columns).astype(jnp.int32)))
        pixels, inside = look_up(image, rows, columns)
        return jnp.where(inside[..., None], pixels, fill)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    blended, covered = jnp.zeros_like(image), jnp.zeros_like(rows)
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            pixels, inside = look_up(image, row, column)
            weight = jnp.where(inside, row_weight * column_weight, 0.0)
            blended, covered = blended + weight[..., None] * pixels, covered + weight
    return blended if fill == 0 else blended + fill * (1 - covered)[..., None]


# ---- shared ---------------------------------------------------------------------------------------------------------


def _reflect(position: Int[Array, "*b"], size: int) -> Int[Array, "*b"]:
    """Positions beyond the border, mirrored at the border pixel's centre."""
    return (size - 1) - jnp.abs((size - 1) - jnp.abs(position))
