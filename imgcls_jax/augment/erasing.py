"""Rectangles and squares that hide a part of each image."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field

from imgcls_jax import config as c
from imgcls_jax.augment.draws import below, each
from imgcls_jax.augment.windows import Window, draw_shapes
from imgcls_jax.config.augment import Range, ShareRange
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError


class RandomErasing(c.Augmentation):
    """Replace a random rectangle (Zhong et al. 2017; torchvision's)."""

    p: c.Probability = 0.5
    """Probability that an image loses a rectangle."""
    scale: ShareRange = (0.02, 0.33)
    """Least and greatest share of the image's area."""
    ratio: Range = (0.3, 3.3)
    """Least and greatest height / width."""
    fill: Literal["mean", "black", "noise"] = "mean"
    """What replaces it: "mean": `Data.mean` (zero after normalization); "black"; "noise": standard normal noise after
    normalization."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        window = each(draw_erasing, keys, images.shape[1:3], self.scale, self.ratio)
        mean, std = jnp.asarray(batch.mean), jnp.asarray(batch.std)
        match self.fill:
            case "mean":
                value = mean
            case "black":
                value = jnp.zeros_like(mean)
            case "noise":
                value = mean + std * each(jax.random.normal, noise_keys, images.shape[1:])
        return erase(images, window, value)


class Cutout(c.Augmentation):
    """Set a square of `size` pixels, cut off by the border, to `Data.mean` (DeVries & Taylor 2017)."""

    size: Annotated[int, Field(gt=0)]
    """Side, pixels."""
    p: c.Probability = 1.0
    """Probability that an image loses a square."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        window = each(draw_cutout, keys, images.shape[1:3], self.size)
        return erase(images, window, jnp.asarray(batch.mean))

    def check(self, context: c.CheckContext) -> None:
        if self.size > min(context.size):
            height, width = context.size
            raise UserError(f"has size={self.size}, more than the {height}×{width} image has")


def draw_erasing(key: Key[Array, ""], size: Size, scale: tuple[float, float], ratio: tuple[float, float]) -> Window:
    """Draw as torchvision's RandomErasing.get_params: the first of ten smaller than the image, else an empty window.

    Args:
      key: of one image.
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
    """Draw a square of `side` pixels whose center is uniform over the image; it may reach beyond the border.

    Source: DeVries & Taylor 2017, https://github.com/uoguelph-mlrg/Cutout (there an odd side loses one pixel).
    """
    y, x = jax.random.uniform(key, (2,))
    extent = jnp.full((), side, jnp.int32)
    return Window(below(y, size[0]) - side // 2, below(x, size[1]) - side // 2, extent, extent)


def erase(image: Float[Array, "b h w c"], window: Window, value: Float[Array, "*#bhw c"]) -> Float[Array, "b h w c"]:
    """Replace the window of each image by `value`, which broadcasts to the images."""
    return jnp.where(window.mask(image.shape[1:3])[..., None], value, image)
