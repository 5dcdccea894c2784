"""The two links that optimizer chains share: weight decay and the learning rate, each with a value per parameter."""

from typing import TypeAlias

import jax
import optax
from jaxtyping import Array, Float, PyTree

Scalar: TypeAlias = Float[Array, ""] | float


def add_decay(decay: PyTree) -> optax.GradientTransformation:
    """Add each parameter times its weight decay: to the gradient before an optimizer, or to the step after it.

    Args:
      decay: a tree like the parameters, of Python floats.
    """
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda u, p, d: u + d * p if d else u, updates, params, decay)
    )


def descend(learning_rate: Scalar, rates: PyTree) -> optax.GradientTransformation:
    """Multiply by minus the learning rate of each parameter.

    Args:
      learning_rate: the schedule's.
      rates: factors on it, a tree like the parameters, of Python floats.
    """
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, rate: -(learning_rate * rate) * u, updates, rates))
