"""From uint8 canvases to what the model sees: center crop and normalization; and back to pixels for display."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt, UInt8

from imgcls_jax.augment.crops import center
from imgcls_jax.config.data import Size

Channels = tuple[float, ...]
"""One value per channel; a single one serves all channels."""


def normalize(image: Float[Array, "*b h w c"], mean: Channels, std: Channels) -> Float[Array, "*b h w c"]:
    """Compute (x − mean) / std for each channel."""
    return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def denormalize(image: Float[Array, "*b h w c"], mean: Channels, std: Channels) -> UInt8[Array, "*b h w c"]:
    """Find the nearest uint8 image of a normalized one, cut off at black and white."""
    unit = image.astype(jnp.float32) * jnp.asarray(std, jnp.float32) + jnp.asarray(mean, jnp.float32)
    return jnp.round(jnp.clip(unit, 0, 1) * 255).astype(jnp.uint8)


def prepare_for_evaluation(
    image: UInt[Array, "b H W c"], *, image_size: Size, mean: Channels, std: Channels
) -> Float[Array, "b h w c"]:
    """Cut out the center of each canvas and normalize it, as for validation and test; nothing is random.

    Raises:
      ValueError: `image_size` exceeds the canvas.
    """
    return normalize(center(image, image_size), mean, std)
