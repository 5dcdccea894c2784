"""Evaluate the splits of a data set by whatever computes their outputs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt64

from imgcls_jax import config as c
from imgcls_jax.config.experiment import Views
from imgcls_jax.data.dataset import Dataset, Split
from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.evaluation import classes, thresholds
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.optim import losses
from imgcls_jax.optim.losses import Loss
from imgcls_jax.record.documents import SCHEMA, Evaluation, Figures, ModelCard

Measure = Callable[[Dataset, Split, Loss, Views | None], tuple[Figures, Predictions]]
"""From (data set, one of its splits, loss, views) to the metrics and the outputs."""


def splits(
    config: c.Config,
    class_names: Sequence[str],
    card: ModelCard,
    kinds: Mapping[str, Views | None],
    measure: Measure,
    arrays: Mapping[str, np.ndarray] | None,
    trained_on: UInt64[np.ndarray, " k"] | None,
) -> tuple[Evaluation, dict[str, Predictions]]:
    """Evaluate the validation and test splits; see `Classifier.evaluate_images` for what is returned and raised.

    Args:
      config: names the data, the loss and the metrics.
      class_names: of the model.
      card: of the model.
      kinds: by the name of a split, how its images are seen.
      measure: evaluates one split.
      arrays: the images, where the source is `Arrays()` without a path.
      trained_on: hash of the content of each image that the model was trained on, where that is known.
    """
    dataset = classes.evaluated(load_data(config.data, arrays=arrays), class_names, config.loss.task)
    outputs = config.model.output_classes(len(class_names))
    loss = losses.build(config.loss, num_classes=outputs, class_counts=dataset.train.class_counts(outputs).tolist())
    found: dict[str, Figures | None] = {"validation": None, "test": None}
    predictions: dict[str, Predictions] = {}
    for name, kind in kinds.items():
        split: Split | None = getattr(dataset, name)
        if split is None:
            continue
        figures, predictions[name] = measure(dataset, split, loss, kind)
        if tuned := card.get("thresholds"):
            figures |= thresholds.figures(predictions[name], tuned)  # type: ignore[operator]
        found[name] = figures
    result: Evaluation = {
        "schema": SCHEMA,
        "validation": found["validation"],
        "test": found["test"],
        "views": {name: kind or "center" for name, kind in kinds.items() if found[name]},
        "notes": classes.notes(dataset, card.get("split_hash"), trained_on, held_out=config.data.validation_share > 0),
    }
    return result, predictions
