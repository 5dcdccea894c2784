"""Changes of color: color jitter and grayscale. Images are float32 [b, h, w, c] in [0, 1], RGB or grayscale.

Factors are those of torchvision's functional transforms and of Pillow's ImageEnhance: 1 changes nothing.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import Field

from imgcls_jax import config as c
from imgcls_jax.augment.draws import between, each
from imgcls_jax.config.augment import NonNegative
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize

LUMA = (0.299, 0.587, 0.114)
"""Weights of ITU-R 601-2, as in Pillow's `convert("L")`."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class ColorJitter(c.Augmentation):
    """Change brightness, contrast, saturation and hue, in random order (torchvision's ColorJitter)."""

    brightness: NonNegative = 0.0
    """Factor drawn from [1 − b, 1 + b]."""
    contrast: NonNegative = 0.0
    """Factor drawn from [1 − c, 1 + c]."""
    saturation: NonNegative = 0.0
    """Factor drawn from [1 − s, 1 + s]."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Shift drawn from [−h, h], full circles."""
    p: c.Probability = 1.0
    """Probability that an image is changed."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        strengths = dict(brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue)
        return jitter(images, each(draw_jitter, keys, **strengths), with_hue=self.hue > 0)

    def check(self, context: c.CheckContext) -> None:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise UserError("changes nothing: brightness, contrast, saturation and hue are all 0")
        if self.contrast or self.saturation or self.hue:
            context.need_picture("changes contrast, saturation or hue")
        if context.channels == 1 and (self.saturation or self.hue):
            raise UserError("changes saturation or hue, which grayscale images (canvas.channels=1) do not have")


class Grayscale(c.Augmentation):
    """Make an image gray; it keeps its number of channels."""

    p: c.Probability = 0.1
    """Probability that an image becomes gray."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        return grayscale(images)

    def check(self, context: c.CheckContext) -> None:
        context.need_picture("makes images gray")
        if context.channels == 1:
            raise UserError("changes nothing: the images are grayscale already (canvas.channels=1)")


class Jitter(NamedTuple):
    """The adjustments of each image, in the order in which it gets them."""

    kind: Int[Array, "*b n"]
    """BRIGHTNESS, CONTRAST, SATURATION or HUE; each at most once."""
    amount: Float[Array, "*b n"]
    """Factor, or for HUE the shift in full circles."""


def luma(image: Float[Array, "b h w c"]) -> Float[Array, "b h w 1"]:
    """Compute the grayscale image."""
    if image.shape[-1] == 1:
        return image
    if image.shape[-1] != 3:  # of which nothing is made: see `ColorJitter.check`
        return image.mean(-1, keepdims=True)
    return (LUMA[0] * image[..., 0] + LUMA[1] * image[..., 1] + LUMA[2] * image[..., 2])[..., None]


def mean_luma(image: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 1"]:
    """Average each image's grayscale image.

    A matrix-vector product, because XLA's plain reduction runs twenty times slower on a CPU.
    """
    batch, height, width, channels = image.shape
    own = LUMA if channels == 3 else (1.0 / channels,) * channels
    weights = jnp.tile(jnp.asarray(own, image.dtype), height * width)
    total = jnp.dot(image.reshape(batch, -1), weights, precision=jax.lax.Precision.HIGHEST)
    return (total / (height * width))[:, None, None, None]


def brightness(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with black; a factor of 0 is black."""
    return blend(image, 0.0, factor)


def contrast(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with the mean of the image's own grayscale image; a factor of 0 is uniform gray."""
    return blend(image, mean_luma(image), factor)


def saturation(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with the grayscale image; a factor of 0 is grayscale."""
    return blend(image, luma(image), factor)


def hue(image: Float[Array, "b h w 3"], shift: Float[Array, "b"]) -> Float[Array, "b h w 3"]:
    """Turn the hue by `shift` full circles in HSV space; ±0.5 gives the complementary colors."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    difference = jnp.where(is_red, green - blue, jnp.where(is_green, blue - red, red - green))
    sextant = jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0))
    angle = sextant + difference / jnp.where(chroma > 0, chroma, 1.0) + 6 * shift[:, None, None]
    angle, value, chroma = (a[..., None] for a in materialize((angle, value, chroma)))  # once, not for each channel
    # Each channel of HSV → RGB is the value less a trapezium of the hue (sixths of a circle, remainder of 6).
    k = angle + jnp.asarray([5.0, 3.0, 1.0], image.dtype)
    k = k - 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def draw_jitter(
    key: Key[Array, ""], *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> Jitter:
    """Draw as torchvision's ColorJitter.get_params, without the adjustments whose strength is 0."""
    kinds, low, high = [], [], []
    for kind, strength in enumerate((brightness, contrast, saturation, hue)):
        if strength > 0:
            kinds.append(kind)
            low.append(-strength if kind == HUE else max(0.0, 1 - strength))
            high.append(strength if kind == HUE else 1 + strength)
    order, amount = jax.random.uniform(key, (2, len(kinds)))
    order, amount = jnp.argsort(order), between(amount, jnp.asarray(low), jnp.asarray(high))
    return Jitter(jnp.asarray(kinds, jnp.int32)[order], amount[order])


def jitter(image: Float[Array, "b h w c"], params: Jitter, *, with_hue: bool = True) -> Float[Array, "b h w c"]:
    """Adjust each image in its own order.

    Brightness, contrast and saturation are blends with images that differ by kind only, so one pass serves the whole
    batch whatever each image's kind is. Hue is expensive: it runs once, between the blends that an image has before it
    and those that it has after it; a blend on the wrong side has factor 1, which changes no bit.

    Args:
      image: float32 in [0, 1].
      params: of every image.
      with_hue: False when no image has HUE.
    """
    kind, amount = params
    if not with_hue:
        return _adjust_all(image, kind, amount)
    at = jnp.argmax(kind == HUE, axis=1)[:, None]
    place = jnp.arange(kind.shape[1])
    image = _adjust_all(image, kind[:, :-1], jnp.where(place < at, amount, 1.0)[:, :-1])
    image = hue(image, jnp.take_along_axis(amount, at, axis=1)[:, 0])
    return _adjust_all(image, kind[:, 1:], jnp.where(place > at, amount, 1.0)[:, 1:])


def grayscale(image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Copy the grayscale image into every channel."""
    return jnp.broadcast_to(luma(image), image.shape)


def blend(
    image: Float[Array, "b h w c"], base: float | Float[Array, "b #h #w #c"], factor: Float[Array, "b"]
) -> Float[Array, "b h w c"]:
    """Blend with `base`, or beyond a factor of 1 extrapolate away from it; cut off at black and white."""
    factor = factor[:, None, None, None]
    return jnp.clip(factor * image + (1 - factor) * base, 0, 1)


def _adjust_all(
    image: Float[Array, "b h w c"], kind: Int[Array, "b n"], factor: Float[Array, "b n"]
) -> Float[Array, "b h w c"]:
    """Change brightness, contrast or saturation n times, whichever each image's `kind` says.

    A scan, because XLA:CPU fuses an unrolled chain and computes it anew for every mean of luma in it.
    """

    def adjust(image, step):
        kind, factor = step
        kind = kind[:, None, None, None]
        base = jnp.where(kind == CONTRAST, mean_luma(image), jnp.where(kind == SATURATION, luma(image), 0.0))
        return blend(image, base, factor), None

    return jax.lax.scan(adjust, image, (kind.T, factor.T))[0]
