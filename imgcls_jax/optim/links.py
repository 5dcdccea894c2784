"""The two links that optimizer chains share: weight decay and the learning rate, each with a value per parameter."""

from typing import TypeAlias

import jax
import optax
from jaxtyping import Array, Float, PyTree

Scalar: TypeAlias = Float[Array, ""] | float


def add_decay(decay: PyTree) -> optax.GradientTransformation:
    """Add each parameter times its weight decay: to the gradient before an optimizer, or to the step after it.

    Args:
      decay: a tree like the parameters, of Python floats, or of traced ones.
    """

    def add(update: Array, p: Array, d: Scalar) -> Array:
        return update if is_zero(d) else update + d * p

    return optax.stateless(lambda updates, params: jax.tree.map(add, updates, params, decay))


def is_zero(decay: Scalar) -> bool:
    """Tell whether a weight decay is known to be none; of a traced one nothing is known."""
    return not isinstance(decay, Array) and not decay


def descend(learning_rate: Scalar, rates: PyTree) -> optax.GradientTransformation:
    """Multiply by minus the learning rate of each parameter.

    Args:
      learning_rate: the schedule's.
      rates: factors on it, a tree like the parameters, of Python floats.
    """
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, rate: -(learning_rate * rate) * u, updates, rates))
