"""Losses, one value per example, and whether predictions are right."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imgcls_jax.config import optim as config
from imgcls_jax.config.optim import Fraction, NonNegative
from imgcls_jax.errors import UserError

Logits = Float[Array, "b k"] | Float[np.ndarray, "b k"]
Labels = Float[Array, "b k"] | Float[np.ndarray, "b k"] | Float[Array, " b"] | Float[np.ndarray, " b"]
"""Distributions over the classes; for one sigmoid output, the probability of class 1."""
Loss = Callable[[Logits, Labels], Float[Array, " b"]]
ClassWeights = Literal["none", "balanced"]


def build(loss: config.Loss, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
    """Build the function of `config.Loss.build`; one of the user's is checked whenever it is traced.

    Args:
      num_classes: number of classes.
      class_counts: number of training images of each class; needed for class_weights="balanced".

    Raises:
      UserError: balanced weights without an image of some class. From the function: it fails or does not return one
        number per example.
    """
    name = type(loss).__name__
    of_examples = loss.build(num_classes=num_classes, class_counts=class_counts)
    if not callable(of_examples):
        raise UserError(f"{name}.build must return a function (logits, labels) → losses, not {of_examples!r}")

    def checked(
        logits: Logits, labels: Labels | Float[Array, "b classes"] | Float[np.ndarray, "b classes"]
    ) -> Float[Array, " b"]:
        if labels.ndim == 2 and logits.shape[-1] < labels.shape[-1]:
            labels = labels[:, 1]  # a sigmoid's one logit is for class 1
        losses = of_examples(logits, labels)
        shape, expected = getattr(losses, "shape", ()), logits.shape[:1]
        if shape != expected or not jnp.issubdtype(losses.dtype, jnp.floating):
            raise UserError(
                f"the loss of {name} must return one float per example, shape {list(expected)}, not shape {list(shape)}"
            )
        return losses.astype(jnp.float32)

    return checked


class CrossEntropy(config.Loss):
    """Softmax cross-entropy against hard or mixed labels."""

    # With class weights w, an example's loss is −Σ_c w_c y_c log p_c, as torch's cross_entropy for soft labels and for
    # `reduction="none"`. torch's mean over *hard* labels divides by the batch's Σ w_y in place of B. Here it is B:
    # balanced weights average 1 over the training split, and a mean of examples is the same however a batch is split.

    label_smoothing: Fraction = 0.0
    """Share of the label's mass spread evenly over all classes, as in torch."""
    class_weights: ClassWeights = "none"
    """"balanced": each class weighs N / (classes · its count) of the training split, 1 on average."""

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        weights = _class_weights(self.class_weights, num_classes, class_counts)
        return lambda logits, labels: _cross_entropy(logits, _smooth(labels, self.label_smoothing), weights, 0.0)

    def balances_classes(self) -> bool:
        return self.class_weights == "balanced"


class Focal(config.Loss):
    """Softmax focal loss (Lin et al. 2017)."""

    gamma: NonNegative = 2.0
    """Exponent of 1 − p."""
    label_smoothing: Fraction = 0.0
    """Share of the label's mass spread evenly over all classes."""
    class_weights: ClassWeights = "none"
    """"balanced": each class weighs N / (classes · its count) of the training split, 1 on average."""

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        weights = _class_weights(self.class_weights, num_classes, class_counts)
        return lambda logits, labels: _cross_entropy(logits, _smooth(labels, self.label_smoothing), weights, self.gamma)

    def balances_classes(self) -> bool:
        return self.class_weights == "balanced"


class BinaryCrossEntropy(config.Loss):
    """Sigmoid cross-entropy: of the one logit of `Head(sigmoid=True)`, or of every class's logit against its
    (smoothed, mixed) label, summed over classes."""

    label_smoothing: Fraction = 0.0
    """Share of the label's mass spread evenly over the classes."""
    sigmoid: ClassVar[bool] = True

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
        return lambda logits, labels: _binary(logits, labels, self.label_smoothing)


def balanced_weights(class_counts: Sequence[int] | Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Compute N / (classes · count) of each class, float32: the weights average 1 over the split.

    Raises:
      UserError: a class without images.
    """
    counts = np.asarray(class_counts, np.float64)
    if (counts <= 0).any():
        empty = ", ".join(str(index) for index in np.flatnonzero(counts <= 0)[:10])
        raise UserError(
            f'loss.class_weights="balanced" cannot weigh classes without training images (class {empty}): '
            'add images, remove the classes, or set it to "none"'
        )
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)


def correct(logits: Logits, label: Int[Array, " b"] | Int[np.ndarray, " b"], k: int = 1) -> Bool[Array, " b"]:
    """Tell whether the true class is among the k highest logits (k ≥ classes: always).

    Of equal logits the lower class comes first, as in argmax, so a collapsed model scores chance and not 100 %. A row
    with a NaN is wrong for every k. Of one-sigmoid logits [b, 1], class 1 is predicted above zero.
    """
    logits = logits_of_classes(logits)
    true = jnp.take_along_axis(logits, label[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1]) < label[:, None]
    rank = jnp.sum((logits > true) | ((logits == true) & lower), axis=-1)
    return (rank < k) & ~jnp.isnan(logits).any(axis=-1)


def logits_of_classes(logits: Logits) -> Float[Array, "b classes"]:
    """Return a logit for each class, float32: of one-sigmoid logits [b, 1], zero for class 0."""
    logits = jnp.asarray(logits).astype(jnp.float32)
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1) if logits.shape[-1] == 1 else logits


def _class_weights(
    kind: ClassWeights, num_classes: int, class_counts: Sequence[int] | None
) -> Float[np.ndarray, " k"] | None:
    if kind == "none":
        return None
    if class_counts is None or len(class_counts) != num_classes:
        raise ValueError(f"balanced class weights need the images of each of the {num_classes} classes")
    return balanced_weights(class_counts)


def _smooth(labels: Labels, smoothing: float) -> Float[Array, "b k"]:
    """torch's label smoothing: y (1 − ε) + ε / K."""
    return jnp.asarray(labels).astype(jnp.float32) * (1 - smoothing) + smoothing / labels.shape[-1]


def _cross_entropy(
    logits: Logits, labels: Float[Array, "b k"], weights: Float[np.ndarray, " k"] | None, gamma: float
) -> Float[Array, " b"]:
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    terms = labels * log_p
    if gamma:
        # 1 − p without cancellation; kept off zero, where a power below one has no finite slope.
        terms *= jnp.maximum(-jnp.expm1(log_p), 1e-7) ** gamma
    if weights is not None:
        terms *= weights
    return -jnp.sum(terms, axis=-1)


def _binary(logits: Logits, labels: Labels, smoothing: float) -> Float[Array, " b"]:
    """Sigmoid cross-entropy summed over classes; one logit is two classes, so smoothing moves to ε / 2."""
    logits = jnp.asarray(logits).astype(jnp.float32)
    if logits.shape[-1] == 1:
        labels = labels.astype(jnp.float32)[:, None] * (1 - smoothing) + smoothing / 2
    else:
        labels = _smooth(labels, smoothing)
    # softplus is stable at any logit.
    return jnp.sum(jax.nn.softplus(logits) - logits * labels, axis=-1)
