"""Affine maps: rotation, shift, scale and shear.

Parameters are drawn for one image and applied to a batch, so that each map can be compared with a reference under the
same parameters. Coordinates are pixel indices: the center of the top left pixel is (0, 0).
"""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field

from imgcls_jax import config as c
from imgcls_jax.augment.draws import between, each
from imgcls_jax.augment.lazy_image import look_up
from imgcls_jax.config.augment import NonNegative, Positive, Range, Share
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize

Interpolation = Literal["nearest", "bilinear"]


class Affine(c.Augmentation):
    """Rotate, shift, scale and shear an image about its center (torchvision's RandomAffine)."""

    degrees: NonNegative = 0.0
    """Greatest rotation to either side, degrees."""
    translate: tuple[Share, Share] = (0.0, 0.0)
    """Greatest horizontal and vertical shift, share of width and height."""
    scale: Range = (1.0, 1.0)
    """Least and greatest factor."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Greatest horizontal shear to either side, degrees."""
    fill: Share = 0.0
    """Gray level outside the image; 0 is black, 1 is white."""
    interpolation: Interpolation = "bilinear"
    """torchvision's own default is "nearest"."""
    p: c.Probability = 1.0
    """Probability that an image is changed."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        ranges = dict(degrees=self.degrees, translate=self.translate, scale=self.scale, shear=self.shear)
        matrix = affine_matrix(each(draw_affine, keys, images.shape[1:3], **ranges))
        return warp(materialize(images), matrix, fill=self.fill, interpolation=self.interpolation)

    def check(self, context: c.CheckContext) -> None:
        if self.degrees == 0 and self.shear == 0 and self.translate == (0, 0) and self.scale == (1, 1):
            raise UserError("changes nothing: give it degrees, translate, scale or shear, or remove it")


class Rotation(c.Augmentation):
    """Rotate an image about its center (torchvision's RandomRotation)."""

    degrees: Positive
    """Greatest angle to either side, degrees."""
    fill: Share = 0.0
    """Gray level outside the image; 0 is black, 1 is white."""
    interpolation: Interpolation = "bilinear"
    """torchvision's own default is "nearest"."""
    p: c.Probability = 1.0
    """Probability that an image is rotated."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        angle = each(draw_affine, keys, images.shape[1:3], degrees=self.degrees).angle
        return warp(materialize(images), rotation_matrix(angle), fill=self.fill, interpolation=self.interpolation)


class AffineParameters(NamedTuple):
    """torchvision's parameters of `affine`: angles in degrees (clockwise), shifts in pixels."""

    angle: Float[Array, "*b"]
    shift_x: Float[Array, "*b"]
    shift_y: Float[Array, "*b"]
    scale: Float[Array, "*b"]
    shear_x: Float[Array, "*b"]
    shear_y: Float[Array, "*b"]


def draw_affine(
    key: Key[Array, ""],
    size: Size,
    *,
    degrees: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
) -> AffineParameters:
    """Draw as torchvision's RandomAffine.get_params for images of `size`; shifts are whole pixels, shear horizontal."""
    angle, shift_x, shift_y, factor, shear_x = jax.random.uniform(key, (5,))
    return AffineParameters(
        angle=between(angle, -degrees, degrees),
        shift_x=jnp.round(between(shift_x, -translate[0] * size[1], translate[0] * size[1])),
        shift_y=jnp.round(between(shift_y, -translate[1] * size[0], translate[1] * size[0])),
        scale=between(factor, *scale),
        shear_x=between(shear_x, -shear, shear),
        shear_y=jnp.zeros(()),
    )


def affine_matrix(
    params: AffineParameters, *, about: tuple[Array | float, Array | float] = (0.0, 0.0)
) -> Float[Array, "*b 2 3"]:
    """Compute the inverse map of torchvision's `affine`: (x, y, 1) of an output pixel → (x, y) of the input.

    Both are measured from the image's center.

    Args:
      params: one set of parameters per image.
      about: the fixed point (x, y), pixels from the image's center.
    """
    angle, shear_x, shear_y = (jnp.deg2rad(a) for a in (params.angle, params.shear_x, params.shear_y))
    m11 = jnp.cos(angle - shear_y) / jnp.cos(shear_y)
    m12 = -(m11 * jnp.tan(shear_x) + jnp.sin(angle))
    m21 = jnp.sin(angle - shear_y) / jnp.cos(shear_y)
    m22 = jnp.cos(angle) - m21 * jnp.tan(shear_x)
    # [[m11, m12], [m21, m22]] has determinant 1: a rotation times shears.
    xx, xy, yx, yy = m22 / params.scale, -m12 / params.scale, -m21 / params.scale, m11 / params.scale
    x, y = about[0] + params.shift_x, about[1] + params.shift_y
    rows = [[xx, xy, about[0] - xx * x - xy * y], [yx, yy, about[1] - yx * x - yy * y]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_matrix(angle: Float[Array, "*b"]) -> Float[Array, "*b 2 3"]:
    """Compute the inverse map of a rotation by `angle` degrees, counter-clockwise, about the center."""
    zero = jnp.zeros_like(angle)
    return affine_matrix(AffineParameters(-angle, zero, zero, jnp.ones_like(angle), zero, zero))


def warp(
    image: Float[Array, "b h w c"],
    matrix: Float[Array, "b 2 3"],
    *,
    fill: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Float[Array, "b h w c"]:
    """Look up the input at `matrix` · (x, y, 1) for every output pixel, both measured from the image's center.

    Outside the image all is `fill`, and "bilinear" blends the border pixels with it. (torchvision's tensor kernel
    weighs that blend twice, Pillow does not blend; they differ from this at the border only.)
    """
    height, width = image.shape[1:3]
    y, x = jnp.arange(height)[:, None] - (height - 1) / 2, jnp.arange(width)[None, :] - (width - 1) / 2
    m = materialize(matrix)[:, :, :, None, None]
    # One pixel outside, all is fill already; the clip keeps the conversion to integers defined.
    columns = jnp.clip(m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2] + (width - 1) / 2, -1, width)
    rows = jnp.clip(m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2] + (height - 1) / 2, -1, height)
    if interpolation == "nearest":
        # Once, not for each channel.
        rows, columns = materialize((jnp.round(rows).astype(jnp.int32), jnp.round(columns).astype(jnp.int32)))
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
