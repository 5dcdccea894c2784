"""Learnt and random policies: AutoAugment, RandAugment, TrivialAugment, AugMix; the same tables as torchvision's.

Each draws for every image a sequence of steps, a step being one of `KINDS` and its magnitude, and applies them to the
batch. Images are float [B, H, W, C] in [0, 1].
"""

import functools
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from imgcls_jax.augment import colour, geometry
from imgcls_jax.augment.geometry import Interpolation, below
from imgcls_jax.augment.materialise import materialise
from imgcls_jax.augment.view import Size

KINDS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
    "Brightness", "Color", "Contrast", "Sharpness",
    "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
"""torchvision's names. Three families: maps of coordinates, blends with another image, and tables of levels."""
_FIRST_BLEND, _FIRST_TABLE = KINDS.index("Brightness"), KINDS.index("Posterize")
IDENTITY = KINDS.index("Identity")

PolicyName = Literal["cifar10", "imagenet"]


class Steps(NamedTuple):
    """What each image gets, in order."""

    kind: Int[Array, "*b n"]
    """Place in `KINDS`."""
    magnitude: Float[Array, "*b n"]
    """Shear's tangent, shift in pixels, counter-clockwise degrees, factor less 1, bits, or threshold in [0, 1]."""


class Space(NamedTuple):
    """The operations a policy draws from, with the magnitude of each at each strength."""

    kinds: tuple[int, ...]
    magnitudes: Float[np.ndarray, "kinds strengths"]
    signed: Bool[np.ndarray, "kinds"]


# ---- tables ---------------------------------------------------------------------------------------------------------

# Each policy: 25 pairs of (operation, probability, strength 0 … 9). Cubuk et al. 2018, appendix.
_AUTO_AUGMENT = {
    "imagenet": (
        "Posterize .4 8  Rotate .6 9", "Solarize .6 5  AutoContrast .6 0", "Equalize .8 0  Equalize .6 0",
        "Posterize .6 7  Posterize .6 6", "Equalize .4 0  Solarize .2 4", "Equalize .4 0  Rotate .8 8",
        "Solarize .6 3  Equalize .6 0", "Posterize .8 5  Equalize 1 0", "Rotate .2 3  Solarize .6 8",
        "Equalize .6 0  Posterize .4 6", "Rotate .8 8  Color .4 0", "Rotate .4 9  Equalize .6 0",
        "Equalize 0 0  Equalize .8 0", "Invert .6 0  Equalize 1 0", "Color .6 4  Contrast 1 8",
        "Rotate .8 8  Color 1 2", "Color .8 8  Solarize .8 7", "Sharpness .4 7  Invert .6 0",
        "ShearX .6 5  Equalize 1 0", "Color .4 0  Equalize .6 0", "Equalize .4 0  Solarize .2 4",
        "Solarize .6 5  AutoContrast .6 0", "Invert .6 0  Equalize 1 0", "Color .6 4  Contrast 1 8",
        "Equalize .8 0  Equalize .6 0",
    ),
    "cifar10": (
        "Invert .1 0  Contrast .2 6", "Rotate .7 2  TranslateX .3 9", "Sharpness .8 1  Sharpness .9 3",
        "ShearY .5 8  TranslateY .7 9", "AutoContrast .5 0  Equalize .9 0", "ShearY .2 7  Posterize .3 7",
        "Color .4 3  Brightness .6 7", "Sharpness .3 9  Brightness .7 9", "Equalize .6 0  Equalize .5 0",
        "Contrast .6 7  Sharpness .6 5", "Color .7 7  TranslateX .5 8", "Equalize .3 0  AutoContrast .4 0",
        "TranslateY .4 3  Sharpness .2 6", "Brightness .9 6  Color .2 8", "Solarize .5 2  Invert 0 0",
        "Equalize .2 0  AutoContrast .6 0", "Equalize .2 0  Equalize .6 0", "Color .9 9  Equalize .6 0",
        "AutoContrast .8 0  Solarize .2 8", "Brightness .1 3  Color .7 0", "Solarize .4 5  AutoContrast .9 0",
        "TranslateY .9 9  TranslateY .7 9", "AutoContrast .9 0  Solarize .8 3", "Equalize .8 0  Invert .1 0",
        "TranslateY .7 9  AutoContrast .9 0",
    ),
}  # fmt: skip


def auto_augment_table(name: PolicyName) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind (place in `KINDS`), probability and strength of the pairs, each [25, 2]."""
    words = np.array([pair.split() for pair in _AUTO_AUGMENT[name]]).reshape(-1, 2, 3)
    kinds = np.vectorize(KINDS.index)(words[..., 0])
    return kinds, words[..., 1].astype(np.float32), words[..., 2].astype(np.int32)


def _space(
    strengths: int,
    names: tuple[str, ...],
    *,
    shear: float,
    shift: tuple[float, float],
    rotate: float,
    blend: float,
    bits: tuple[int, int],
) -> Space:
    """Magnitudes that rise linearly to the given ones (`shift`: vertical, horizontal; `bits`: at 0, greatest loss)."""
    rise = np.linspace(0, 1, strengths)
    rows: Mapping[str, np.ndarray] = {
        "ShearX": shear * rise,
        "ShearY": shear * rise,
        "TranslateX": np.floor(shift[1] * rise + 1e-4),  # whole pixels; 1e-4 keeps an exact 3 from becoming 2
        "TranslateY": np.floor(shift[0] * rise + 1e-4),
        "Rotate": rotate * rise,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), blend * rise),
        "Posterize": np.round(bits[0] - bits[1] * rise),
        "Solarize": 1 - rise,
    }
    signed = {name for name in rows if name not in ("Posterize", "Solarize")}
    zero = np.zeros(strengths)
    return Space(
        kinds=tuple(KINDS.index(name) for name in names),
        magnitudes=np.stack([rows.get(name, zero) for name in names]).astype(np.float32),
        signed=np.array([name in signed for name in names]),
    )


def auto_augment_space(size: Size) -> Space:
    """All of `KINDS` at ten strengths, for images of `size`."""
    shift = (150 / 331 * size[0], 150 / 331 * size[1])
    return _space(10, KINDS, shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(8, 4))


def rand_augment_space(size: Size) -> Space:
    """`KINDS` without Invert at 31 strengths, for images of `size`."""
    shift = (150 / 331 * size[0], 150 / 331 * size[1])
    return _space(31, KINDS[:-1], shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(8, 4))


def trivial_augment_space() -> Space:
    """`KINDS` without Invert at 31 strengths of the wide space."""
    return _space(31, KINDS[:-1], shear=0.99, shift=(32.0, 32.0), rotate=135.0, blend=0.99, bits=(8, 6))


def aug_mix_space(size: Size) -> Space:
    """`KINDS` without Identity and Invert at ten strengths, for images of `size`."""
    shift = (size[0] / 3, size[1] / 3)
    return _space(10, KINDS[1:-1], shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(4, 4))


# ---- draws ----------------------------------------------------------------------------------------------------------


def draw_auto_augment(key: Key[Array, ""], name: PolicyName, size: Size) -> Steps:
    """One of the 25 pairs; each of its two operations by its own probability (Cubuk et al. 2018)."""
    kinds, probabilities, strengths = (jnp.asarray(column) for column in auto_augment_table(name))
    pair, chance, sign = jnp.split(jax.random.uniform(key, (5,)), (1, 3))
    pair = below(pair[0], len(kinds))
    magnitude = _magnitudes(sign, auto_augment_space(size), kinds[pair], strengths[pair])
    return Steps(jnp.where(chance < probabilities[pair], kinds[pair], IDENTITY), magnitude)


def draw_rand_augment(key: Key[Array, ""], num_ops: int, magnitude: int, size: Size) -> Steps:
    """`num_ops` operations, with replacement, all of strength `magnitude` of 30 (Cubuk et al. 2019)."""
    space = rand_augment_space(size)
    place, sign = jax.random.uniform(key, (2, num_ops))
    place = below(place, len(space.kinds))
    return Steps(jnp.asarray(space.kinds)[place], _magnitudes(sign, space, place, jnp.full((num_ops,), magnitude)))


def draw_trivial_augment(key: Key[Array, ""]) -> Steps:
    """One operation of random strength (Müller & Hutter 2021)."""
    space = trivial_augment_space()
    place, strength, sign = jax.random.uniform(key, (3, 1))
    place, strength = below(place, len(space.kinds)), below(strength, space.magnitudes.shape[1])
    return Steps(jnp.asarray(space.kinds)[place], _magnitudes(sign, space, place, strength))


class Mixture(NamedTuple):
    """AugMix's chains and what each contributes."""

    chains: Steps
    """Each field [*b, width, depth]; a shorter chain ends with Identity."""
    shares: Float[Array, "*b width"]
    """The rest of 1 is the unchanged image's."""


def draw_aug_mix(key: Key[Array, ""], *, severity: int, width: int, depth: int, alpha: float, size: Size) -> Mixture:
    """`width` chains of `depth` operations (−1: one to three), strength below `severity` (Hendrycks et al. 2020)."""
    step_key, length_key, share_key, own_key = jax.random.split(key, 4)
    space = aug_mix_space(size)
    longest = depth if depth > 0 else 3
    place, strength, sign = jax.random.uniform(step_key, (3, width, longest))
    place, strength = below(place, len(space.kinds)), below(strength, severity)
    length = 1 + below(jax.random.uniform(length_key, (width, 1)), 3) if depth < 1 else depth
    kinds = jnp.where(jnp.arange(longest) < length, jnp.asarray(space.kinds)[place], IDENTITY)
    shares = jax.random.dirichlet(share_key, jnp.full((width,), alpha)) * jax.random.beta(own_key, alpha, alpha)
    return Mixture(Steps(kinds, _magnitudes(sign, space, place, strength)), shares)


def _magnitudes(
    sign: Float[Array, "*n"], space: Space, place: Int[Array, "*n"], strength: Int[Array, "*n"]
) -> Float[Array, "*n"]:
    """Magnitudes of operations by their place in the space; signed ones are negative where `sign` < 0.5."""
    magnitude = jnp.asarray(space.magnitudes)[place, strength]
    return jnp.where((sign < 0.5) & jnp.asarray(space.signed)[place], -magnitude, magnitude)


# ---- application ----------------------------------------------------------------------------------------------------


def apply(
    image: Float[Array, "b h w c"], steps: Steps, *, interpolation: Interpolation = "nearest"
) -> Float[Array, "b h w c"]:
    """Each image's steps in order. What a coordinate map brings in from outside is black."""

    def together(image, steps):
        return _in_order(image, steps, functools.partial(_step, interpolation=interpolation))

    def one_by_one(image, steps):
        step = functools.partial(_step_of_one, interpolation=interpolation)
        batches_of_one = jax.tree.map(lambda a: a[:, None], (image, steps))
        return jax.lax.map(lambda one: _in_order(*one, step), batches_of_one)[:, 0]

    # One by one, each image goes through one family only; a GPU had better not branch.
    return jax.lax.platform_dependent(image, steps, cpu=one_by_one, default=together)


def _in_order(image: Float[Array, "b h w c"], steps: Steps, step: Callable[..., Array]) -> Float[Array, "b h w c"]:
    # A scan, so that one step is compiled for all and XLA cannot fuse steps, which would compute pixels many times.
    return jax.lax.scan(lambda image, one: (step(image, *one), None), image, (steps.kind.T, steps.magnitude.T))[0]


def aug_mix(image: Float[Array, "b h w c"], mixture: Mixture) -> Float[Array, "b h w c"]:
    """The image and the ends of its chains, averaged by their shares."""

    def add_chain(mixed, chain):
        kind, magnitude, share = chain
        return mixed + share[:, None, None, None] * apply(image, Steps(kind, magnitude), interpolation="bilinear"), None

    own = (1 - mixture.shares.sum(axis=1))[:, None, None, None]
    chains = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (*mixture.chains, mixture.shares))
    return jax.lax.scan(add_chain, own * image, chains)[0]


def _step(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"], *, interpolation: Interpolation
) -> Float[Array, "b h w c"]:
    """One operation on each image: the batch runs through each of the three families, not each of the operations."""
    family = kind[:, None, None, None]
    base = jnp.where(_is(family, "Sharpness"), _smooth(image), _shade(image, kind))
    moved = _move(image, kind, magnitude, interpolation)
    changed = jnp.where(family < _FIRST_BLEND, moved, _blend(image, base, magnitude))
    changed = jnp.where(family < _FIRST_TABLE, changed, _change_levels(image, kind, magnitude))
    return jnp.where(family == IDENTITY, image, changed)


def _step_of_one(
    image: Float[Array, "1 h w c"], kind: Int[Array, "1"], magnitude: Float[Array, "1"], *, interpolation: Interpolation
) -> Float[Array, "1 h w c"]:
    """The same of a batch of one image, which runs through the family of its operation alone."""
    branches = (
        lambda: image,
        lambda: _move(image, kind, magnitude, interpolation),
        lambda: _blend(image, _shade(image, kind), magnitude),
        lambda: _blend(image, _smooth(image), magnitude),
        lambda: _change_levels(image, kind, magnitude),
    )
    firsts = jnp.asarray([IDENTITY + 1, _FIRST_BLEND, KINDS.index("Sharpness"), _FIRST_TABLE])
    return jax.lax.switch((kind[0] >= firsts).sum(), branches)


def _is(kind: Int[Array, "b"], name: str) -> Bool[Array, "b"]:
    return kind == KINDS.index(name)


def _move(
    image: Float[Array, "b h w c"], kind: Int[Array, "b"], magnitude: Float[Array, "b"], interpolation: Interpolation
) -> Float[Array, "b h w c"]:
    """Shear, translate or rotate."""
    return geometry.warp(image, _matrix(kind, magnitude, image.shape[1:3]), interpolation=interpolation)


def _matrix(kind: Int[Array, "b"], magnitude: Float[Array, "b"], size: Size) -> Float[Array, "b 2 3"]:
    """Rotation is about the centre, shear about the top left corner."""

    def of(name: str) -> Float[Array, "b"]:
        return jnp.where(_is(kind, name), magnitude, 0.0)

    params = geometry.Affine(
        angle=-of("Rotate"),
        shift_x=of("TranslateX"),
        shift_y=of("TranslateY"),
        scale=jnp.ones_like(magnitude),
        shear_x=jnp.rad2deg(jnp.arctan(of("ShearX"))),
        shear_y=jnp.rad2deg(jnp.arctan(of("ShearY"))),
    )
    away = jnp.where(_is(kind, "Rotate"), 0.0, -0.5)
    return geometry.affine_matrix(params, about=(away * size[1], away * size[0]))


def _shade(image: Float[Array, "b h w c"], kind: Int[Array, "b"]) -> Float[Array, "b #h #w 1"]:
    """What Brightness, Color and Contrast blend with: black, grey, mean grey."""
    kind = kind[:, None, None, None]
    return jnp.where(
        _is(kind, "Contrast"), colour.mean_luma(image), jnp.where(_is(kind, "Color"), colour.luma(image), 0.0)
    )


def _blend(
    image: Float[Array, "b h w c"], base: Float[Array, "b #h #w #c"], magnitude: Float[Array, "b"]
) -> Float[Array, "b h w c"]:
    """Away from the base, or towards it where the magnitude is negative."""
    factor = 1 + magnitude[:, None, None, None]
    return jnp.clip(factor * image + (1 - factor) * base, 0, 1)


def _smooth(image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Pillow's SMOOTH: the 3 × 3 neighbourhood, the centre five times as heavy; border pixels stay."""
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    return jnp.where(inner, (box + 4 * image) / 13, image)


def _levels(image: Float[Array, "b h w c"]) -> Int[Array, "b n c"]:
    """Level of each pixel, 0 … 255."""
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
    """What Posterize, Solarize, AutoContrast, Equalize or Invert makes of each level, in [0, 1]."""
    counts = _histogram(_levels(image), _is(kind, "AutoContrast") | _is(kind, "Equalize"))
    levels = jnp.arange(256)
    kind, magnitude = kind[:, None, None], magnitude[:, None, None]
    step = 2 ** (8 - magnitude.astype(jnp.int32))
    table = jnp.where(_is(kind, "Posterize"), levels // step * step, 255 - levels)
    table = jnp.where(_is(kind, "Solarize") & (levels < 255 * magnitude), levels, table)
    table = jnp.where(_is(kind, "AutoContrast"), _stretched(counts), table)
    return materialise(jnp.where(_is(kind, "Equalize"), _equalised(counts), table) / 255)


def _histogram(level: Int[Array, "b n c"], needed: Bool[Array, "b"]) -> Int[Array, "b c 256"]:
    """How often each channel has each level; all zero where it is not `needed`."""
    channel = jnp.arange(level.shape[2])

    def count(level):
        return jnp.zeros((level.shape[1], 256), jnp.int32).at[channel, level].add(1)

    def count_all(level, needed):
        return jnp.where(needed[:, None, None], jax.vmap(count)(level), 0)

    def count_needed(level, needed):
        empty = jnp.zeros((level.shape[2], 256), jnp.int32)
        return jax.lax.map(lambda one: jax.lax.cond(one[1], count, lambda _: empty, one[0]), (level, needed))

    # A CPU adds up one pixel after the other, so it should skip images; a GPU had better not branch.
    return jax.lax.platform_dependent(level, needed, cpu=count_needed, default=count_all)


def _stretched(counts: Int[Array, "b c 256"]) -> Float[Array, "b c 256"]:
    """The least level becomes 0, the greatest 255."""
    low = jnp.argmax(counts > 0, axis=-1, keepdims=True)
    high = 255 - jnp.argmax(counts[..., ::-1] > 0, axis=-1, keepdims=True)
    levels = jnp.arange(256)
    return jnp.where(high > low, jnp.clip((levels - low) * 255 / jnp.maximum(high - low, 1), 0, 255), levels)


def _equalised(counts: Int[Array, "b c 256"]) -> Int[Array, "b c 256"]:
    """Pillow's ImageOps.equalize: each level becomes its rank, in steps that leave the greatest level out."""
    last = 255 - jnp.argmax(counts[..., ::-1] > 0, axis=-1, keepdims=True)
    step = (counts.sum(axis=-1, keepdims=True) - jnp.take_along_axis(counts, last, axis=-1)) // 255
    below = jnp.cumsum(counts, axis=-1) - counts
    levels = jnp.arange(256)
    return jnp.where(step > 0, jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255), levels)
