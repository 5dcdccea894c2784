"""The operations that the automatic policies compose: each image's own sequence of them, applied to a batch.

A step is one of `KINDS` and its magnitude. Images are float32 [b, h, w, c] in [0, 1].
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imgcls_jax.augment.affine import AffineParameters, Interpolation, affine_matrix, warp
from imgcls_jax.augment.color import blend, luma, mean_luma
from imgcls_jax.config.data import Size
from imgcls_jax.xla.fence import materialize

KINDS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
    "Brightness", "Color", "Contrast", "Sharpness",
    "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
"""torchvision's names. Three families: maps of coordinates, blends with another image, and tables of levels."""
_FIRST_BLEND, _FIRST_TABLE = KINDS.index("Brightness"), KINDS.index("Posterize")
IDENTITY = KINDS.index("Identity")


class Steps(NamedTuple):
    """What each image gets, in order."""

    kind: Int[Array, "*b n"]
    """Place in `KINDS`."""
    magnitude: Float[Array, "*b n"]
    """Shear's tangent, shift in pixels, counter-clockwise degrees, factor less 1, bits, or threshold in [0, 1]."""


def apply(
    image: Float[Array, "b h w c"], steps: Steps, *, interpolation: Interpolation = "nearest"
) -> Float[Array, "b h w c"]:
    """Apply each image's steps in order. What a coordinate map brings in from outside is black."""

    def together(image, steps):
        return _in_order(image, steps, functools.partial(_step, interpolation=interpolation))

    def one_by_one(image, steps):
        step = functools.partial(_step_of_one, interpolation=interpolation)
        batches_of_one = jax.tree.map(lambda a: a[:, None], (image, steps))
        return jax.lax.map(lambda one: _in_order(*one, step), batches_of_one)[:, 0]

    # One by one, each image goes through one family only; a GPU is faster without branches.
    return jax.lax.platform_dependent(image, steps, cpu=one_by_one, default=together)


def _in_order(image: Float[Array, "b h w c"], steps: Steps, step: Callable[..., Array]) -> Float[Array, "b h w c"]:
    # A scan, so that one step is compiled for all and XLA cannot fuse steps, which would compute pixels many times.
    return jax.lax.scan(lambda image, one: (step(image, *one), None), image, (steps.kind.T, steps.magnitude.T))[0]


def _step(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"], *, interpolation: Interpolation
) -> Float[Array, "b h w c"]:
    """Apply one operation to each image: the batch runs through each of the three families, not each operation."""
    family = kind[:, None, None, None]
    base = jnp.where(_is(family, "Sharpness"), _smooth(image), _shade(image, kind))
    moved = _move(image, kind, magnitude, interpolation)
    changed = jnp.where(family < _FIRST_BLEND, moved, blend(image, base, 1 + magnitude))
    changed = jnp.where(family < _FIRST_TABLE, changed, _change_levels(image, kind, magnitude))
    return jnp.where(family == IDENTITY, image, changed)


def _step_of_one(
    image: Float[Array, "1 h w c"], kind: Int[Array, "1"], magnitude: Float[Array, "1"], *, interpolation: Interpolation
) -> Float[Array, "1 h w c"]:
    """Apply one operation to a batch of one image, which runs through the family of that operation alone."""
    branches = (
        lambda: image,
        lambda: _move(image, kind, magnitude, interpolation),
        lambda: blend(image, _shade(image, kind), 1 + magnitude),
        lambda: blend(image, _smooth(image), 1 + magnitude),
        lambda: _change_levels(image, kind, magnitude),
    )
    firsts = jnp.asarray([IDENTITY + 1, _FIRST_BLEND, KINDS.index("Sharpness"), _FIRST_TABLE])
    return jax.lax.switch((kind[0] >= firsts).sum(), branches)


def _is(kind: Int[Array, "*b"], name: str) -> Bool[Array, "*b"]:
    return kind == KINDS.index(name)


def _move(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"], interpolation: Interpolation
) -> Float[Array, "b h w c"]:
    """Shear, translate or rotate."""
    return warp(image, _matrix(kind, magnitude, image.shape[1:3]), interpolation=interpolation)


def _matrix(kind: Int[Array, "b"], magnitude: Float[Array, "b"], size: Size) -> Float[Array, "b 2 3"]:
    """Compute the inverse maps; rotation is about the center, shear about the top left corner."""

    def of(name: str) -> Float[Array, "b"]:
        return jnp.where(_is(kind, name), magnitude, 0.0)

    params = AffineParameters(
        angle=-of("Rotate"),
        shift_x=of("TranslateX"),
        shift_y=of("TranslateY"),
        scale=jnp.ones_like(magnitude),
        shear_x=jnp.rad2deg(jnp.arctan(of("ShearX"))),
        shear_y=jnp.rad2deg(jnp.arctan(of("ShearY"))),
    )
    away = jnp.where(_is(kind, "Rotate"), 0.0, -0.5)
    return affine_matrix(params, about=(away * size[1], away * size[0]))


def _shade(image: Float[Array, "b h w c"], kind: Int[Array, "b"]) -> Float[Array, "b #h #w 1"]:
    """Compute what Brightness, Color and Contrast blend with: black, the grayscale image, its mean."""
    kind = kind[:, None, None, None]
    return jnp.where(_is(kind, "Contrast"), mean_luma(image), jnp.where(_is(kind, "Color"), luma(image), 0.0))


def _smooth(image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Smooth as Pillow's SMOOTH: the 3 × 3 neighborhood, the center weighing five times as much; border pixels stay."""
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    return jnp.where(inner, (box + 4 * image) / 13, image)


def _levels(image: Float[Array, "b h w c"]) -> Int[Array, "b n c"]:
    """Round each pixel to its level, 0 … 255."""
    return jnp.round(image * 255).astype(jnp.int32).reshape(image.shape[0], -1, image.shape[-1])


def _look_up_levels(image: Float[Array, "b h w c"], table: Float[Array, "b c 256"]) -> Float[Array, "b h w c"]:
    channel = jnp.arange(image.shape[-1])
    look_up = jax.vmap(lambda one, level: one.at[channel, level].get(mode="promise_in_bounds"))
    return look_up(table, _levels(image)).reshape(image.shape)


def _change_levels(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"]
) -> Float[Array, "b h w c"]:
    """Posterize, Solarize, AutoContrast, Equalize or Invert."""
    return _look_up_levels(image, _level_table(image, kind, magnitude))


def _level_table(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"]
) -> Float[Array, "b c 256"]:
    """Tabulate what Posterize, Solarize, AutoContrast, Equalize or Invert maps each level to, in [0, 1]."""
    counts = _histogram(_levels(image), _is(kind, "AutoContrast") | _is(kind, "Equalize"))
    levels = jnp.arange(256)
    kind, magnitude = kind[:, None, None], magnitude[:, None, None]
    step = 2 ** (8 - magnitude.astype(jnp.int32))
    table = jnp.where(_is(kind, "Posterize"), levels // step * step, 255 - levels)
    table = jnp.where(_is(kind, "Solarize") & (levels < 255 * magnitude), levels, table)
    table = jnp.where(_is(kind, "AutoContrast"), _stretched(counts), table)
    return materialize(jnp.where(_is(kind, "Equalize"), _equalized(counts), table) / 255)


def _histogram(level: Int[Array, "b n c"], needed: Bool[Array, "b"]) -> Int[Array, "b c 256"]:
    """Count how often each channel has each level; all zero where it is not `needed`."""
    channel = jnp.arange(level.shape[2])

    def count(level):
        return jnp.zeros((level.shape[1], 256), jnp.int32).at[channel, level].add(1)

    def count_all(level, needed):
        return jnp.where(needed[:, None, None], jax.vmap(count)(level), 0)

    def count_needed(level, needed):
        empty = jnp.zeros((level.shape[2], 256), jnp.int32)
        return jax.lax.map(lambda one: jax.lax.cond(one[1], count, lambda _: empty, one[0]), (level, needed))

    # A CPU adds up one pixel after the other, so it should skip images; a GPU is faster without branches.
    return jax.lax.platform_dependent(level, needed, cpu=count_needed, default=count_all)


def _stretched(counts: Int[Array, "b c 256"]) -> Float[Array, "b c 256"]:
    """Map the least level to 0 and the greatest to 255, linearly."""
    low = jnp.argmax(counts > 0, axis=-1, keepdims=True)
    high = 255 - jnp.argmax(counts[..., ::-1] > 0, axis=-1, keepdims=True)
    levels = jnp.arange(256)
    return jnp.where(high > low, jnp.clip((levels - low) * 255 / jnp.maximum(high - low, 1), 0, 255), levels)


def _equalized(counts: Int[Array, "b c 256"]) -> Int[Array, "b c 256"]:
    """Map each level to its rank, as Pillow's ImageOps.equalize, in steps that leave the greatest level out."""
    last = 255 - jnp.argmax(counts[..., ::-1] > 0, axis=-1, keepdims=True)
    step = (counts.sum(axis=-1, keepdims=True) - jnp.take_along_axis(counts, last, axis=-1)) // 255
    below = jnp.cumsum(counts, axis=-1) - counts
    levels = jnp.arange(256)
    return jnp.where(step > 0, jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255), levels)
