"""Adam and the optimizers that rescale its steps."""

from typing import Any

import optax

from imgcls_jax.config.optim import Fraction, NonNegative, Optimizer, Positive
from imgcls_jax.optim.links import Scalar, add_decay, descend


class Adam(Optimizer):
    """torch's Adam; weight decay is added to the gradient."""

    b1: Fraction = 0.9
    """Decay of the gradient's average."""
    b2: Fraction = 0.999
    """Decay of the squared gradient's average."""
    eps: Positive = 1e-8
    """Added to the root of the squared gradient's average."""
    weight_decay: NonNegative = 0.0
    """Share of each parameter that is added to its gradient."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        return optax.chain(
            add_decay(decay), optax.scale_by_adam(self.b1, self.b2, self.eps), descend(learning_rate, rates)
        )


class AdamW(Optimizer):
    """torch's AdamW; weight decay is decoupled from the gradient and scaled by the learning rate."""

    b1: Fraction = 0.9
    """Decay of the gradient's average."""
    b2: Fraction = 0.999
    """Decay of the squared gradient's average."""
    eps: Positive = 1e-8
    """Added to the root of the squared gradient's average."""
    weight_decay: NonNegative = 1e-2
    """Weight decay; each step subtracts its product with the learning rate and the parameter."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps), add_decay(decay), descend(learning_rate, rates)
        )


class LAMB(Optimizer):
    """LAMB (You et al. 2020): AdamW's step of each parameter, scaled to the parameter's norm."""

    b1: Fraction = 0.9
    """Decay of the gradient's average."""
    b2: Fraction = 0.999
    """Decay of the squared gradient's average."""
    eps: Positive = 1e-6
    """Added to the root of the squared gradient's average."""
    weight_decay: NonNegative = 0.0
    """Weight decay; each step subtracts its product with the learning rate and the parameter."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            add_decay(decay),
            optax.scale_by_trust_ratio(),
            descend(learning_rate, rates),
        )
