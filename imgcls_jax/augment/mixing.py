"""Mixup and CutMix: every image is mixed with its neighbor in the batch, and so are their labels.

One draw serves the whole batch. The partner of image i is image i − 1 (of the first, the last), as in torchvision:
batches are shuffled, so the neighbor is a random image, and on many devices only one image per device travels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from imgcls_jax import config as c
from imgcls_jax.augment.draws import below
from imgcls_jax.augment.windows import Window
from imgcls_jax.config.augment import Positive, Share
from imgcls_jax.config.data import Size


class Shares(NamedTuple):
    """How a batch is mixed: what each image keeps of itself."""

    own: Float[Array, "#h #w"]
    """Share of the image itself in each pixel; the rest is its partner's."""
    label: Float[Array, ""]
    """Share of the image's own label: the mean of `own`."""


class NeighborMix(c.Mix, abstract=True):
    """A mix of each image with the image before it in the batch; a subclass defines `draw`, which returns `Shares`."""

    def blend(
        self, images: Float[Array, "b h w c"], labels: Float[Array, "b classes"], drawn: Shares
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
        return mix(images, labels, drawn)


class Mixup(NeighborMix):
    """Blend each image with another of its batch, and their labels alike (Zhang et al. 2018)."""

    alpha: Positive
    """The image's own share is drawn from Beta(alpha, alpha), once per batch, as in the paper's code; the partner is
    the neighbor in the shuffled batch."""
    p: c.Probability = 1.0
    """Probability that a batch is mixed."""

    def draw(self, key: Key[Array, ""], batch: c.BatchInfo) -> Shares:
        return draw_mixup(key, self.alpha)


class CutMix(NeighborMix):
    """Paste in a rectangle of another image of the batch, and share labels by area (Yun et al. 2019)."""

    alpha: Positive
    """The pasted area is 1 − Beta(alpha, alpha), drawn once per batch."""
    p: c.Probability = 1.0
    """Probability that a batch is mixed."""

    def draw(self, key: Key[Array, ""], batch: c.BatchInfo) -> Shares:
        return draw_cutmix(key, self.alpha, batch.image_size)


class MixupOrCutMix(NeighborMix):
    """Apply either mixup or CutMix to each batch."""

    mixup_alpha: Positive
    """Mixup's alpha."""
    cutmix_alpha: Positive
    """CutMix's alpha."""
    switch: Share = 0.5
    """Probability of CutMix."""
    p: c.Probability = 1.0
    """Probability that a batch is mixed."""

    def _draw(self, key: Key[Array, ""], choice_key: Key[Array, ""], batch: c.BatchInfo) -> Shares:
        mixup, cutmix = draw_mixup(key, self.mixup_alpha), draw_cutmix(key, self.cutmix_alpha, batch.image_size)
        return choose(mixup, cutmix, jax.random.bernoulli(choice_key, self.switch))


def draw_mixup(key: Key[Array, ""], alpha: float) -> Shares:
    """Draw one share for all pixels, from Beta(alpha, alpha) (Zhang et al. 2018)."""
    share = jax.random.beta(key, alpha, alpha)
    return Shares(share[None, None], share)


def draw_cutmix(key: Key[Array, ""], alpha: float, size: Size) -> Shares:
    """Draw a rectangle shaped like the image that is the partner's (Yun et al. 2019; torchvision's CutMix.make_params).

    Its area is 1 − Beta(alpha, alpha) of the image's before the border cuts it off; labels go by the area left.
    """
    share_key, center_key = jax.random.split(key)
    side = 0.5 * jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
    center = below(jax.random.uniform(center_key, (2,)), jnp.asarray(size))
    half = jnp.floor(side * jnp.asarray(size)).astype(jnp.int32)
    start, stop = jnp.maximum(center - half, 0), jnp.minimum(center + half, jnp.asarray(size))
    return cut(Window(start[0], start[1], stop[0] - start[0], stop[1] - start[1]), size)


def cut(window: Window, size: Size) -> Shares:
    """Give the pixels inside `window`, which lies within the image, to the partner."""
    share = 1 - window.height * window.width / (size[0] * size[1])
    return Shares(jnp.where(window.mask(size), 0.0, 1.0), share)


def choose(first: Shares, second: Shares, use_second: Bool[Array, ""]) -> Shares:
    """Choose one of two draws."""
    return jax.tree.map(lambda a, b: jnp.where(use_second, b, a), first, second)


def mix(
    image: Float[Array, "b h w c"], label: Float[Array, "b classes"], shares: Shares
) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
    """Mix images and soft labels; each label's sum stays what it was if all have the same."""
    own = shares.own[None, :, :, None]
    mixed = own * image + (1 - own) * jnp.roll(image, 1, axis=0)
    return mixed, shares.label * label + (1 - shares.label) * jnp.roll(label, 1, axis=0)
