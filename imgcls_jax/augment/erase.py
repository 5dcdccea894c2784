"""Rectangles and squares that hide a part of each image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from imgcls_jax.augment.geometry import Window, below, draw_shapes
from imgcls_jax.augment.view import Size


def draw_erasing(key: Key[Array, ""], size: Size, scale: tuple[float, float], ratio: tuple[float, float]) -> Window:
    """torchvision's RandomErasing.get_params: the first of ten draws smaller than the image, else an empty window.

    Args:
        size: of the image.
        scale: least and greatest share of the image's area.
        ratio: least and greatest height / width.
    """
    area, ratios, (y, x) = draw_shapes(key, scale, ratio)
    heights = jnp.round(jnp.sqrt(size[0] * size[1] * area * ratios)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(size[0] * size[1] * area / ratios)).astype(jnp.int32)
    fits = (heights < size[0]) & (widths < size[1])
    drawn, found = jnp.argmax(fits), jnp.any(fits)
    height, width = jnp.where(found, heights[drawn], 0), jnp.where(found, widths[drawn], 0)
    return Window(below(y, size[0] - height + 1), below(x, size[1] - width + 1), height, width)


def draw_cutout(key: Key[Array, ""], size: Size, side: int) -> Window:
    """A square of `side` pixels whose centre is uniform over the image; it may reach beyond the border.

    Source: DeVries & Taylor 2017, https://github.com/uoguelph-mlrg/Cutout (there an odd side loses one pixel).
    """
    y, x = jax.random.uniform(key, (2,))
    extent = jnp.full((), side, jnp.int32)
    return Window(below(y, size[0]) - side // 2, below(x, size[1]) - side // 2, extent, extent)


def erase(
    image: Float[Array, "b h w c"], window: Window, value: Float[Array, "*#b #h #w c"]
) -> Float[Array, "b h w c"]:
    """The window of each image is replaced by `value`, which broadcasts to the images."""
    return jnp.where(window.mask(image.shape[1:3])[..., None], value, image)
