"""From uint8 canvases to what the model sees: centre crop, normalisation; and back for the eye."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from imgcls_jax.augment.geometry import centre_crop
from imgcls_jax.augment.view import Size, View

Channels = tuple[float, ...]


def normalise(image: Float[Array, "b h w c"], mean: Channels, std: Channels) -> Float[Array, "b h w c"]:
    """(x − mean) / std for each channel."""
    return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def denormalise(image: Float[Array, "b h w c"], mean: Channels, std: Channels) -> UInt8[Array, "b h w c"]:
    """The nearest uint8 image of a normalised one, cut off at black and white."""
    unit = image.astype(jnp.float32) * jnp.asarray(std, jnp.float32) + jnp.asarray(mean, jnp.float32)
    return jnp.round(jnp.clip(unit, 0, 1) * 255).astype(jnp.uint8)


def evaluation(
    image: UInt8[Array, "b H W c"], *, image_size: Size, mean: Channels, std: Channels
) -> Float[Array, "b h w c"]:
    """What the model sees of validation and test canvases: the centre, normalised; nothing random.

    Raises:
        ValueError: `image_size` exceeds the canvas.
    """
    return normalise(centre_crop(View.of(image), image_size).pixels(), mean, std)
