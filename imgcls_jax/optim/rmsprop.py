"""RMSprop, in torch's and in Keras's definition."""

from typing import Any, Literal

import jax
import optax

from imgcls_jax.config.optim import Fraction, NonNegative, Optimizer, Positive
from imgcls_jax.optim.links import Scalar, add_decay, descend, is_zero


class RMSprop(Optimizer):
    """RMSprop, of torch or of Keras. They differ in three ways: Keras's epsilon is inside the root, its momentum sums
    steps that already carry their learning rate, and its weight decay is decoupled from the gradient."""

    variant: Literal["torch", "keras"]
    """Whose definition."""
    decay: Fraction
    """Decay of the squared gradient's average; torch's default is 0.99, Keras's 0.9."""
    eps: Positive
    """torch's default is 1e-8, Keras's 1e-7."""
    momentum: Fraction = 0.0
    """Share of the last step's velocity that remains; 0: none."""
    weight_decay: NonNegative = 0.0
    """Weight decay; each step subtracts its product with the learning rate and the parameter."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        momentum = [optax.trace(self.momentum)] if self.momentum else []
        if self.variant == "torch":
            scale = optax.scale_by_rms(self.decay, self.eps, eps_in_sqrt=False)
            return optax.chain(add_decay(decay), scale, *momentum, descend(learning_rate, rates))

        def shrunk(u: Any, p: Any, d: Scalar, rate: float) -> Any:
            return u if is_zero(d) else u - (learning_rate * rate) * d * p

        shrink = optax.stateless(lambda updates, params: jax.tree.map(shrunk, updates, params, decay, rates))
        scale = optax.scale_by_rms(self.decay, self.eps)
        return optax.chain(scale, descend(learning_rate, rates), *momentum, shrink)
