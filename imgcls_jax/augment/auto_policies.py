"""Learned and random policies: AutoAugment, RandAugment, TrivialAugment, AugMix; with the tables of torchvision.

Each draws for every image a sequence of steps (`auto_operations`), and applies them to the batch.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import AfterValidator, Field

from imgcls_jax import config as c
from imgcls_jax.augment.auto_operations import IDENTITY, KINDS, Steps, apply
from imgcls_jax.augment.draws import below, each
from imgcls_jax.config.augment import Positive
from imgcls_jax.config.data import Size

PolicyName = Literal["cifar10", "imagenet"]


def _depth(depth: int) -> int:
    if depth != -1 and depth < 1:
        raise ValueError(f"must be at least 1, or -1 for one to three at random, not {depth}")
    return depth


class AutoAugment(c.Augmentation):
    """Apply one of 25 learned pairs of operations to each image (Cubuk et al. 2018)."""

    policy: PolicyName
    """The data set on which the policy was learned."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        return apply(images, each(draw_auto_augment, keys, self.policy, images.shape[1:3]))

    def check(self, context: c.CheckContext) -> None:
        _check(context)


class RandAugment(c.Augmentation):
    """Apply random operations of equal strength to each image (Cubuk et al. 2019)."""

    num_ops: Annotated[int, Field(gt=0)] = 2
    """Number of operations per image."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength, 0 to 30."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        return apply(images, each(draw_rand_augment, keys, self.num_ops, self.magnitude, images.shape[1:3]))

    def check(self, context: c.CheckContext) -> None:
        _check(context)


class TrivialAugmentWide(c.Augmentation):
    """Apply one random operation of random strength to each image (Müller & Hutter 2021; torchvision's wide ranges)."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        return apply(images, each(draw_trivial_augment, keys))

    def check(self, context: c.CheckContext) -> None:
        _check(context)


class AugMix(c.Augmentation):
    """Average each image and the ends of several chains of operations (Hendrycks et al. 2020)."""

    severity: Annotated[int, Field(ge=1, le=10)] = 3
    """Greatest strength of an operation, 1 to 10."""
    width: Annotated[int, Field(gt=0)] = 3
    """Number of augmentation chains."""
    depth: Annotated[int, AfterValidator(_depth)] = -1
    """Length of a chain; −1: one to three at random."""
    alpha: Positive = 1.0
    """Concentration of the mixing weights."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        ranges = dict(severity=self.severity, width=self.width, depth=self.depth, alpha=self.alpha)
        return aug_mix(images, each(draw_aug_mix, keys, **ranges, size=images.shape[1:3]))

    def check(self, context: c.CheckContext) -> None:
        _check(context)


def _check(context: c.CheckContext) -> None:
    context.need_picture("changes colors")
    context.need_levels("works on 256 levels of brightness")


class Space(NamedTuple):
    """The operations a policy draws from, with the magnitude of each at each strength."""

    kinds: tuple[int, ...]
    magnitudes: Float[np.ndarray, "kinds strengths"]
    signed: Bool[np.ndarray, "kinds"]


class Mixture(NamedTuple):
    """AugMix's chains and what each contributes."""

    chains: Steps
    """Each field [*b, width, depth]; a shorter chain ends with Identity."""
    shares: Float[Array, "*b width"]
    """The rest of 1 is the unchanged image's."""


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
    """Return kind (place in `KINDS`), probability and strength of the pairs of a learned policy, each [25, 2]."""
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
    """Tabulate magnitudes that rise linearly to the given ones.

    Args:
      strengths: number of strengths.
      names: the operations.
      shear, rotate, blend: greatest magnitude of these operations.
      shift: greatest vertical and horizontal shift, pixels.
      bits: bits that Posterize keeps at strength 0, and how many fewer at the greatest.
    """
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
    """Return AutoAugment's space: all of `KINDS` at ten strengths, for images of `size`."""
    shift = (150 / 331 * size[0], 150 / 331 * size[1])
    return _space(10, KINDS, shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(8, 4))


def rand_augment_space(size: Size) -> Space:
    """Return RandAugment's space: `KINDS` without Invert at 31 strengths, for images of `size`."""
    shift = (150 / 331 * size[0], 150 / 331 * size[1])
    return _space(31, KINDS[:-1], shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(8, 4))


def trivial_augment_space() -> Space:
    """Return TrivialAugment's wide space: `KINDS` without Invert at 31 strengths."""
    return _space(31, KINDS[:-1], shear=0.99, shift=(32.0, 32.0), rotate=135.0, blend=0.99, bits=(8, 6))


def aug_mix_space(size: Size) -> Space:
    """Return AugMix's space: `KINDS` without Identity and Invert at ten strengths, for images of `size`."""
    shift = (size[0] / 3, size[1] / 3)
    return _space(10, KINDS[1:-1], shear=0.3, shift=shift, rotate=30.0, blend=0.9, bits=(4, 4))


# ---- draws ----------------------------------------------------------------------------------------------------------


def draw_auto_augment(key: Key[Array, ""], name: PolicyName, size: Size) -> Steps:
    """Draw one of the 25 pairs; each of its two operations runs by its own probability."""
    kinds, probabilities, strengths = (jnp.asarray(column) for column in auto_augment_table(name))
    pair, chance, sign = jnp.split(jax.random.uniform(key, (5,)), (1, 3))
    pair = below(pair[0], len(kinds))
    magnitude = _magnitudes(sign, auto_augment_space(size), kinds[pair], strengths[pair])
    return Steps(jnp.where(chance < probabilities[pair], kinds[pair], IDENTITY), magnitude)


def draw_rand_augment(key: Key[Array, ""], num_ops: int, magnitude: int, size: Size) -> Steps:
    """Draw `num_ops` operations, with replacement, all of strength `magnitude` of 30."""
    space = rand_augment_space(size)
    place, sign = jax.random.uniform(key, (2, num_ops))
    place = below(place, len(space.kinds))
    return Steps(jnp.asarray(space.kinds)[place], _magnitudes(sign, space, place, jnp.full((num_ops,), magnitude)))


def draw_trivial_augment(key: Key[Array, ""]) -> Steps:
    """Draw one operation of random strength."""
    space = trivial_augment_space()
    place, strength, sign = jax.random.uniform(key, (3, 1))
    place, strength = below(place, len(space.kinds)), below(strength, space.magnitudes.shape[1])
    return Steps(jnp.asarray(space.kinds)[place], _magnitudes(sign, space, place, strength))


def draw_aug_mix(key: Key[Array, ""], *, severity: int, width: int, depth: int, alpha: float, size: Size) -> Mixture:
    """Draw `width` chains of `depth` operations (−1: one to three), of strengths below `severity`."""
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
    """Look up magnitudes by place in the space and strength; signed ones are negative where `sign` < 0.5."""
    magnitude = jnp.asarray(space.magnitudes)[place, strength]
    return jnp.where((sign < 0.5) & jnp.asarray(space.signed)[place], -magnitude, magnitude)


# ---- application ----------------------------------------------------------------------------------------------------


def aug_mix(image: Float[Array, "b h w c"], mixture: Mixture) -> Float[Array, "b h w c"]:
    """Average each image and the ends of its chains by their shares."""

    def add_chain(mixed, chain):
        kind, magnitude, share = chain
        return mixed + share[:, None, None, None] * apply(image, Steps(kind, magnitude), interpolation="bilinear"), None

    own = (1 - mixture.shares.sum(axis=1))[:, None, None, None]
    chains = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (*mixture.chains, mixture.shares))
    return jax.lax.scan(add_chain, own * image, chains)[0]
