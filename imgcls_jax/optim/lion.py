"""Lion."""

from typing import Any

import optax

from imgcls_jax.config.optim import Fraction, NonNegative, Optimizer
from imgcls_jax.optim.links import Scalar, add_decay, descend


class Lion(Optimizer):
    """Lion (Chen et al. 2023): the sign of the momentum, with decoupled weight decay."""

    b1: Fraction = 0.9
    """Share of the momentum in the step."""
    b2: Fraction = 0.99
    """Decay of the momentum."""
    weight_decay: NonNegative = 0.0
    """Weight decay; each step subtracts its product with the learning rate and the parameter."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(self.b1, self.b2), add_decay(decay), descend(learning_rate, rates))
