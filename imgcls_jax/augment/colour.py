"""Changes of colour: jitter, greyscale, blur. Images are float [B, H, W, C] in [0, 1], RGB or greyscale.

Factors are those of torchvision's functional transforms and of Pillow's ImageEnhance: 1 changes nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from imgcls_jax.augment.geometry import between
from imgcls_jax.augment.materialise import materialise

LUMA = (0.299, 0.587, 0.114)
"""Weights of ITU-R 601-2, as in Pillow's `convert("L")`."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Jitter(NamedTuple):
    """The adjustments of each image, in the order in which it gets them."""

    kind: Int[Array, "*b n"]
    """BRIGHTNESS, CONTRAST, SATURATION or HUE; each at most once."""
    amount: Float[Array, "*b n"]
    """Factor, or for HUE the shift in full circles."""


def luma(image: Float[Array, "b h w c"]) -> Float[Array, "b h w 1"]:
    """The greyscale image."""
    if image.shape[-1] == 1:
        return image
    return (LUMA[0] * image[..., 0] + LUMA[1] * image[..., 1] + LUMA[2] * image[..., 2])[..., None]


def mean_luma(image: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 1"]:
    """Mean of each image's greyscale image.

    A matrix-vector product, because XLA's plain reduction runs twenty times slower on a CPU.
    """
    batch, height, width, channels = image.shape
    weights = jnp.tile(jnp.asarray(LUMA if channels == 3 else (1.0,), image.dtype), height * width)
    total = jnp.dot(image.reshape(batch, -1), weights, precision=jax.lax.Precision.HIGHEST)
    return (total / (height * width))[:, None, None, None]


def brightness(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with black; a factor of 0 is black."""
    return _blend(image, 0.0, factor)


def contrast(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with the mean of the image's own greyscale image; a factor of 0 is uniform grey."""
    return _blend(image, mean_luma(image), factor)


def saturation(image: Float[Array, "b h w c"], factor: Float[Array, "b"]) -> Float[Array, "b h w c"]:
    """Blend with the greyscale image; a factor of 0 is greyscale."""
    return _blend(image, luma(image), factor)


def hue(image: Float[Array, "b h w 3"], shift: Float[Array, "b"]) -> Float[Array, "b h w 3"]:
    """Turn the hue by `shift` full circles in HSV space; ±0.5 gives the complementary colours."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    difference = jnp.where(is_red, green - blue, jnp.where(is_green, blue - red, red - green))
    sextant = jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0))
    angle = sextant + difference / jnp.where(chroma > 0, chroma, 1.0) + 6 * shift[:, None, None]
    angle, value, chroma = (a[..., None] for a in materialise((angle, value, chroma)))  # not once a channel
    # Each channel of HSV → RGB is the value less a trapezium of the hue (sixths of a circle, remainder of 6).
    k = angle + jnp.asarray([5.0, 3.0, 1.0], image.dtype)
    k = k - 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def draw_jitter(
    key: Key[Array, ""], *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> Jitter:
    """torchvision's ColorJitter.get_params, without the adjustments whose strength is 0."""
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
    """Each image's adjustments in its own order.

    Brightness, contrast and saturation are blends with images that differ by kind only, so one pass serves the whole
    batch whatever each image's kind is. Hue is dear: it runs once, between those blends that an image has before it
    and those it has after it; a blend on the wrong side has factor 1, which changes no bit.

    Args:
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


def greyscale(image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The greyscale image in every channel."""
    return jnp.broadcast_to(luma(image), image.shape)


def draw_sigma(key: Key[Array, ""], sigma: tuple[float, float]) -> Float[Array, ""]:
    """Standard deviation of a blur, uniform."""
    return jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])


def gaussian_blur(image: Float[Array, "b h w c"], sigma: Float[Array, "b"], kernel: int) -> Float[Array, "b h w c"]:
    """Gaussian of `kernel` × `kernel` pixels (odd), the image reflected at its border; torchvision's gaussian_blur."""
    radius = kernel // 2
    offsets = jnp.arange(-radius, radius + 1)
    weights = materialise(jax.nn.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, axis=1))[:, :, None, None, None]
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (radius, radius), (0, 0), (0, 0)), mode="reflect")
    image = sum(weights[:, k] * padded[:, k : k + height] for k in range(kernel))
    image = materialise(image)  # else each pixel of the first pass is computed `kernel` times
    padded = jnp.pad(image, ((0, 0), (0, 0), (radius, radius), (0, 0)), mode="reflect")
    return sum(weights[:, k] * padded[:, :, k : k + width] for k in range(kernel))


def _blend(
    image: Float[Array, "b h w c"], base: float | Float[Array, "b #h #w 1"], factor: Float[Array, "b"]
) -> Float[Array, "b h w c"]:
    """Beyond a factor of 1 it extrapolates, cut off at black and white."""
    factor = factor[:, None, None, None]
    return jnp.clip(factor * image + (1 - factor) * base, 0, 1)


def _adjust_all(
    image: Float[Array, "b h w c"], kind: Int[Array, "b n"], factor: Float[Array, "b n"]
) -> Float[Array, "b h w c"]:
    """n times brightness, contrast or saturation, whichever each image's `kind` says.

    A scan, because XLA:CPU fuses an unrolled chain and computes it anew for every mean of luma in it.
    """

    def adjust(image, step):
        kind, factor = (a[:, None, None, None] for a in step)
        base = jnp.where(kind == CONTRAST, mean_luma(image), jnp.where(kind == SATURATION, luma(image), 0.0))
        return jnp.clip(factor * image + (1 - factor) * base, 0, 1), None

    return jax.lax.scan(adjust, image, (kind.T, factor.T))[0]
