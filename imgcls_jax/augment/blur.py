"""Gaussian blur."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import AfterValidator, Field

from imgcls_jax import config as c
from imgcls_jax.augment.draws import each
from imgcls_jax.config.augment import Range
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError(f"must be odd, not {side}")
    return side


class GaussianBlur(c.Augmentation):
    """Blur an image with a Gaussian of random width (torchvision's)."""

    kernel: Annotated[int, Field(ge=3), AfterValidator(_odd)]
    """Side of the kernel, pixels; odd."""
    sigma: Range = (0.1, 2.0)
    """Least and greatest standard deviation, pixels."""
    p: c.Probability = 0.5
    """Probability that an image is blurred."""

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: c.BatchInfo
    ) -> Float[Array, "b h w c"]:
        return gaussian_blur(images, each(draw_sigma, keys, self.sigma), self.kernel)

    def check(self, context: c.CheckContext) -> None:
        if self.kernel > min(context.size):
            height, width = context.size
            raise UserError(f"has kernel={self.kernel}, more than the {height}×{width} image has")


def draw_sigma(key: Key[Array, ""], sigma: tuple[float, float]) -> Float[Array, ""]:
    """Draw the standard deviation of a blur, uniform."""
    return jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])


def gaussian_blur(image: Float[Array, "b h w c"], sigma: Float[Array, "b"], kernel: int) -> Float[Array, "b h w c"]:
    """Blur by a Gaussian of `kernel` × `kernel` pixels (odd), the image reflected at its border, as torchvision."""
    radius = kernel // 2
    offsets = jnp.arange(-radius, radius + 1)
    weights = materialize(jax.nn.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, axis=1))[:, :, None, None, None]
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (radius, radius), (0, 0), (0, 0)), mode="reflect")
    image = sum(weights[:, k] * padded[:, k : k + height] for k in range(kernel))
    image = materialize(image)  # else each pixel of the first pass is computed `kernel` times
    padded = jnp.pad(image, ((0, 0), (0, 0), (radius, radius), (0, 0)), mode="reflect")
    return sum(weights[:, k] * padded[:, :, k : k + width] for k in range(kernel))
