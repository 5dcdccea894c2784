"""Stochastic gradient descent."""

from typing import Any

import optax

from imgcls_jax.config.optim import Fraction, NonNegative, Optim, Optimizer
from imgcls_jax.errors import UserError
from imgcls_jax.optim.links import Scalar, add_decay, descend


class SGD(Optimizer):
    """torch's SGD; weight decay is added to the gradient."""

    momentum: Fraction = 0.0
    """Share of the last step's velocity that remains; 0: none."""
    nesterov: bool = False
    """Nesterov's momentum, as in torch."""
    weight_decay: NonNegative = 0.0
    """Share of each parameter that is added to its gradient."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        momentum = [optax.trace(self.momentum, self.nesterov)] if self.momentum else []
        return optax.chain(add_decay(decay), *momentum, descend(learning_rate, rates))

    def check(self, optim: Optim, where: str) -> None:
        if self.nesterov and not self.momentum:
            raise UserError(f"{where}.nesterov needs a momentum above 0: set {where}.momentum")
