"""Losses of tasks other than one class per image: several labels per image, or numbers to predict."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field

from imgcls_jax.config import optim as config
from imgcls_jax.config.optim import Fraction, Positive, Task
from imgcls_jax.optim.losses import Labels, Logits, Loss


class MultiLabel(config.Loss):
    """Sigmoid cross-entropy of every label, their mean, as torch's binary_cross_entropy_with_logits: any number of
    labels may be right for an image."""

    label_smoothing: Fraction = 0.0
    """ε moves 0 and 1 to ε / 2 and 1 − ε / 2."""
    positive_weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the loss of the labels that an image has, torch's pos_weight: above 1 where labels are rare."""
    sigmoid: ClassVar[bool] = True
    task: ClassVar[Task] = "labels"

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        def loss(logits: Logits, labels: Labels) -> Float[Array, " b"]:
            y = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
            # −log σ(z) = softplus(−z) and −log(1 − σ(z)) = softplus(z): stable at any logit.
            terms = self.positive_weight * y * jax.nn.softplus(-logits) + (1 - y) * jax.nn.softplus(logits)
            return terms.mean(-1)

        return loss


class MSE(config.Loss):
    """Mean squared error of the numbers to predict: outputs are the numbers themselves."""

    task: ClassVar[Task] = "numbers"

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        return lambda logits, labels: jnp.square(logits - labels).mean(-1)


class Huber(config.Loss):
    """Huber loss of the numbers to predict, as torch's HuberLoss: squared near the truth and linear far from it, so
    that outliers pull less."""

    delta: Positive = 1.0
    """Error from which on the loss is linear, in the unit of the numbers."""
    task: ClassVar[Task] = "numbers"

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        def loss(logits: Logits, labels: Labels) -> Float[Array, " b"]:
            error = jnp.abs(logits - labels)
            square, line = 0.5 * error**2, self.delta * (error - 0.5 * self.delta)
            return jnp.where(error <= self.delta, square, line).mean(-1)

        return loss
