"""What outputs are compared with: labels as vectors, which can be mixed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def targets(label: Shaped[Array, "b *k"], num_classes: int) -> Float[Array, "b classes"]:
    """Return what the outputs are to be, float32: one-hot rows of class numbers [b]; several labels per image, or
    numbers to be predicted, [b, k], as they are."""
    return jax.nn.one_hot(label, num_classes) if label.ndim == 1 else label.astype(jnp.float32)
