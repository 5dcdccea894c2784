"""Losses, one value an example, and whether predictions are right."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imgcls_jax.config import optim as config
from imgcls_jax.errors import UserError

Loss = Callable[[Float[Array, "b k"], Float[Array, "b k"] | Float[Array, " b"]], Float[Array, " b"]]


def build(loss: config.Loss, *, num_classes: int, class_counts: Sequence[int] | None = None) -> Loss:
    """The function (logits, labels) → loss of each example, float32; training minimises its mean.

    Logits are float [B, num_classes] and labels soft, each row a distribution over the classes (one-hot, or mixed by
    mixup). Under a one-sigmoid head, logits are [B, 1] and labels float [B], the mass of class 1.

    With class weights w, an example's loss is −Σ_c w_c y_c log p_c, as torch's cross_entropy for soft labels and for
    `reduction="none"`. torch's mean over *hard* labels divides by the batch's Σ w_y in place of B. Here it is B:
    balanced weights average 1 over the training split, and a mean of examples is the same however a batch is split.

    Args:
      class_counts: images a class in the training split; needed for class_weights="balanced".

    Raises:
      UserError: balanced weights without an image of some class.
    """
    match loss:
        case config.CrossEntropy():
            weights = _class_weights(loss.class_weights, num_classes, class_counts)
            return lambda logits, labels: _cross_entropy(logits, _smooth(labels, loss.label_smoothing), weights, 0.0)
        case config.Focal():
            weights = _class_weights(loss.class_weights, num_classes, class_counts)
            return lambda logits, labels: _cross_entropy(
                logits, _smooth(labels, loss.label_smoothing), weights, loss.gamma
            )
        case config.BinaryCrossEntropy():
            return lambda logits, labels: _binary(logits, labels, loss.label_smoothing)


def balanced_weights(class_counts: Sequence[int]) -> Float[np.ndarray, " k"]:
    """N / (classes · count) of each class, float32: they average 1 over the split.

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


def correct(logits: Float[Array, "b k"], label: Int[Array, " b"], k: int = 1) -> Bool[Array, " b"]:
    """Whether the true class is among the k highest logits (k ≥ classes: always).

    Of equal logits the lower class comes first, as in argmax, so a collapsed model scores chance and not 100 %. A row
    with a NaN is wrong for every k. Of one-sigmoid logits [b, 1], class 1 is predicted above zero.
    """
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    true = jnp.take_along_axis(logits, label[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1]) < label[:, None]
    rank = jnp.sum((logits > true) | ((logits == true) & lower), axis=-1)
    return (rank < k) & ~jnp.isnan(logits).any(axis=-1)


def _class_weights(kind: str, num_classes: int, class_counts: Sequence[int] | None) -> np.ndarray | None:
    if kind == "none":
        return None
    if class_counts is None or len(class_counts) != num_classes:
        raise ValueError(f"balanced class weights need the images of each of the {num_classes} classes")
    return balanced_weights(class_counts)


def _smooth(labels: jax.Array, smoothing: float) -> jax.Array:
    """torch's label smoothing: y (1 − ε) + ε / K."""
    return labels.astype(jnp.float32) * (1 - smoothing) + smoothing / labels.shape[-1]


def _cross_entropy(logits: jax.Array, labels: jax.Array, weights: np.ndarray | None, gamma: float) -> jax.Array:
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    terms = labels * log_p
    if gamma:
        # 1 − p without cancellation; kept off zero, where a power below one has no finite slope.
        terms *= jnp.maximum(-jnp.expm1(log_p), 1e-7) ** gamma
    if weights is not None:
        terms *= weights
    return -jnp.sum(terms, axis=-1)


def _binary(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Sigmoid cross-entropy summed over classes; one logit is two classes, so smoothing moves to ε / 2."""
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        labels = labels.astype(jnp.float32)[:, None] * (1 - smoothing) + smoothing / 2
    else:
        labels = _smooth(labels, smoothing)
    # softplus is stable at any logit.
    return jnp.sum(jax.nn.softplus(logits) - logits * labels, axis=-1)
