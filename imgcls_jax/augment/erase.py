"""Rectangles and squares that hide a part of each image."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from imgcls_jax.augment.geometry import ATTEMPTS, Size, Window


def draw_erasing(key: Key[Array, ""], size: Size, scale: tuple[float, float], ratio: tuple[float, float]) -> Window:
    """torchvision's RandomErasing.get_params: the first of ten draws smaller than the image, else an empty window.

    Args:
        size: of the image.
        scale: least and greatest share of the image's area.
        ratio: least and greatest height / width.
    """
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    area = size[0] * size[1] * jax.random.uniform(area_key, (ATTEMPTS,), minval=scale[0], maxval=scale[1])
    ratios = jnp.exp(jax.random.uniform(ratio_key, (ATTEMPTS,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])))
    heights = jnp.round(jnp.sqrt(area * ratios)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area / ratios)).astype(jnp.int32)
    fits = (heights < size[0]) & (widths < size[1])
    drawn, found = jnp.argmax(fits), jnp.any(fits)
    height, width = jnp.where(found, heights[drawn], 0), jnp.where(found, widths[drawn], 0)
    top = jax.random.randint(top_key, (), 0, size[0] - height + 1)
    left = jax.random.randint(left_key, (), 0, size[1] - width + 1)
    return Window(top, left, height, width)


def draw_cutout(key: Key[Array, ""], size: Size, side: int) -> Window:
    """A square of `side` pixels whose centre is uniform over the image; it may reach beyond the border.

    Source: DeVries & Taylor 2017, https://github.com/uoguelph-mlrg/Cutout (there an odd side loses one pixel).
    """
    centre = jax.random.randint(key, (2,), 0, jnp.asarray(size)) - side // 2
    extent = jnp.full((), side, jnp.int32)
    return Window(centre[0], centre[1], extent, extent)


def erase(
    image: Float[Array, "b h w c"], window: Window, value: Float[Array, "*#b #h #w c"]
) -> Float[Array, "b h w c"]:
    """The window of each image is replaced by `value`, which broadcasts to the images."""
    return jnp.where(window.mask(image.shape[1:3])[..., None], value, image)
