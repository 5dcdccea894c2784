"""Mixup and CutMix: every image is mixed with its neighbour in the batch, and so are their labels.

One draw serves the whole batch. The partner of image i is image i − 1 (of the first, the last), as in torchvision:
batches are shuffled, so the neighbour is a random image, and on many devices only one image a device travels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from imgcls_jax.augment.geometry import Window, below
from imgcls_jax.augment.materialise import materialise
from imgcls_jax.augment.view import Size


class Mix(NamedTuple):
    """How a batch is mixed."""

    own: Float[Array, "#h #w"]
    """Share of the image itself in each pixel; the rest is its partner's."""
    label: Float[Array, ""]
    """Share of the image's own label: the mean of `own`."""


def draw_mixup(key: Key[Array, ""], alpha: float) -> Mix:
    """One share for all pixels, from Beta(alpha, alpha) (Zhang et al. 2018)."""
    share = jax.random.beta(key, alpha, alpha)
    return Mix(share[None, None], share)


def draw_cutmix(key: Key[Array, ""], alpha: float, size: Size) -> Mix:
    """A rectangle shaped like the image is the partner's (Yun et al. 2019; torchvision's CutMix.make_params).

    Its area is 1 − Beta(alpha, alpha) of the image's before the border cuts it off; labels go by the area left.
    """
    share_key, centre_key = jax.random.split(key)
    side = 0.5 * jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
    centre = below(jax.random.uniform(centre_key, (2,)), jnp.asarray(size))
    half = jnp.floor(side * jnp.asarray(size)).astype(jnp.int32)
    start, stop = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, jnp.asarray(size))
    return cut(Window(start[0], start[1], stop[0] - start[0], stop[1] - start[1]), size)


def cut(window: Window, size: Size) -> Mix:
    """The partner's pixels inside `window`, which lies within the image."""
    share = 1 - window.height * window.width / (size[0] * size[1])
    return Mix(jnp.where(window.mask(size), 0.0, 1.0), share)


def choose(first: Mix, second: Mix, use_second: Array) -> Mix:
    """One of two draws."""
    return jax.tree.map(lambda a, b: jnp.where(use_second, b, a), first, second)


def nothing() -> Mix:
    """Leaves images and labels as they are."""
    return Mix(jnp.ones((1, 1)), jnp.ones(()))


def mix(
    image: Float[Array, "b h w c"], label: Float[Array, "b classes"], params: Mix
) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
    """Mixes images and soft labels; each label's mass stays what it was if all have the same."""
    image = materialise(image)  # else XLA:CPU computes each pixel for itself and, slowly, for its partner
    own = params.own[None, :, :, None]
    mixed = own * image + (1 - own) * jnp.roll(image, 1, axis=0)
    return mixed, params.label * label + (1 - params.label) * jnp.roll(label, 1, axis=0)
