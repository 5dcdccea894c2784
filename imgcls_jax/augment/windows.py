"""Rectangles in images, which crops cut out and erasing covers."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from imgcls_jax.augment.draws import between
from imgcls_jax.config.data import Size

ATTEMPTS = 10
"""Windows that random resized crop and random erasing draw before they give up, as in torchvision."""


class Window(NamedTuple):
    """The pixels [top, top + height) × [left, left + width); each field is an int32 array of the same shape."""

    top: Int[Array, "*b"]
    left: Int[Array, "*b"]
    height: Int[Array, "*b"]
    width: Int[Array, "*b"]

    def mask(self, size: Size) -> Bool[Array, "*b h w"]:
        """Return True inside the window, on images of `size`."""
        rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
        top, left, height, width = (side[..., None, None] for side in self)
        return (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)


def draw_shapes(
    key: Key[Array, ""], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Float[Array, "attempts"], Float[Array, "attempts"], Float[Array, "2"]]:
    """Draw areas, uniform in `scale`; ratios, log-uniform in `ratio`; and a place in [0, 1)²."""
    # One call: each call of jax.random adds about half a second of compilation on a CPU.
    area, ratios, place = jnp.split(jax.random.uniform(key, (2 * ATTEMPTS + 2,)), (ATTEMPTS, 2 * ATTEMPTS))
    return between(area, *scale), jnp.exp(between(ratios, math.log(ratio[0]), math.log(ratio[1]))), place
