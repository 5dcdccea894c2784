"""From the outputs of a network to what is said about an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from imgcls_jax import config as c
from imgcls_jax.config.optim import Task
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import tasks
from imgcls_jax.evaluation.calibration import energy
from imgcls_jax.inference.prediction import Choice, Estimate, Prediction


def probabilities(logits: Float32[np.ndarray, "*n outputs"], task: Task) -> Float[np.ndarray, "*n classes"]:
    """Compute the probability of each class: by softmax, or of one sigmoid output of both classes. Of several labels
    per image, that of each by itself."""
    if task == "labels":
        return tasks.sigmoid(logits)
    logits = logits.astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)  # sigmoid(z) is softmax((0, z))[1]
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def prediction(
    logits: Float32[np.ndarray, " outputs"],
    path: Path | None,
    *,
    top_k: int,
    everything: bool,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None,
) -> Prediction:
    """Make the prediction of an image.

    Args:
      logits: of the image.
      path: its file.
      top_k: number of classes in `Prediction.top`.
      everything: fill `Prediction.probabilities`.
      class_names: by label; a model that keeps more outputs than there are classes may choose one without.
      thresholds: of each of several labels per image; None: the image has one class.
    """
    shares = probabilities(logits, "classes" if thresholds is None else "labels")
    order = np.argsort(-shares, kind="stable").tolist()
    names = [*class_names, *(f"output {label}" for label in range(len(class_names), len(shares)))]

    def choice(label: int) -> Choice:
        return Choice(label, names[label], float(shares[label]))

    top = tuple(map(choice, order[:top_k]))
    best = top[0]
    has_energy = len(logits) > 1 and thresholds is None
    return Prediction(
        best.label,
        best.class_name,
        best.probability,
        top,
        path,
        shares if everything else None,
        float(energy(logits[None].astype(np.float64))[0]) if has_energy else None,
        None if thresholds is None else tuple(choice(label) for label in order if shares[label] >= thresholds[label]),
    )


def estimate(values: Float32[np.ndarray, " numbers"], path: Path | None, names: Sequence[str]) -> Estimate:
    """Give the numbers that a model predicts of an image their names."""
    return Estimate(dict(zip(names, values.tolist(), strict=True)), path)


def need_outputs(config: c.Config, names: Sequence[str], what: str) -> None:
    """Raise UserError where a model of published weights has no output layer."""
    if not names:
        raise UserError(
            f"{config.name} has no output layer, so there is no {what}; it has features, and "
            "transfer.init_from trains an output layer on them"
        )


def refuse_numbers(config: c.Config, names: Sequence[str]) -> None:
    """Raise UserError where a model has no probabilities, because it predicts numbers."""
    if config.loss.task == "numbers":
        raise UserError(
            f"{config.name} predicts numbers ({', '.join(names[:10])}), which have no class and no probability: "
            "Classifier.estimate_each(images) gives them"
        )


def need_numbers(config: c.Config) -> None:
    """Raise UserError where a model does not predict numbers."""
    if config.loss.task != "numbers":
        raise UserError(f"{config.name} predicts {config.loss.task}, not numbers: use Classifier.predict")
