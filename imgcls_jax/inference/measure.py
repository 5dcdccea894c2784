"""Evaluate the splits of a data set by whatever computes their outputs."""

from collections.abc import Callable, Mapping

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.config.experiment import Views
from imgcls_jax.data.dataset import Dataset, Split
from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.evaluation import classes, thresholds
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.optim import losses
from imgcls_jax.optim.losses import Loss
from imgcls_jax.record.documents import SCHEMA, Evaluation, Figures

Measure = Callable[[Dataset, Split, Loss, Views | None], tuple[Figures, Predictions]]
"""From (data set, one of its splits, loss, views) to the metrics and the outputs."""


def splits(
    config: c.Config,
    trained: TrainedModel,
    kinds: Mapping[str, Views | None],
    measure: Measure,
    arrays: Mapping[str, np.ndarray] | None,
) -> tuple[Evaluation, dict[str, Predictions]]:
    """Evaluate the validation and test splits; see `Classifier.evaluate_images` for what is returned and raised.

    Args:
      config: names the data, the loss and the metrics.
      trained: the model.
      kinds: by the name of a split, how its images are seen.
      measure: evaluates one split.
      arrays: the images, where the source is `Arrays()` without a path.
    """
    dataset = classes.evaluated(load_data(config.data, arrays=arrays), trained.class_names, config.loss.task)
    outputs = config.model.output_classes(len(trained.class_names))
    loss = losses.build(config.loss, num_classes=outputs, class_counts=dataset.train.class_counts(outputs).tolist())
    found: dict[str, Figures | None] = {"validation": None, "test": None}
    predictions: dict[str, Predictions] = {}
    for name, kind in kinds.items():
        split: Split | None = getattr(dataset, name)
        if split is None:
            continue
        figures, predictions[name] = measure(dataset, split, loss, kind)
        if tuned := trained.card.get("thresholds"):
            figures |= thresholds.figures(predictions[name], tuned)  # type: ignore[operator]
        found[name] = figures
    result: Evaluation = {
        "schema": SCHEMA,
        "validation": found["validation"],
        "test": found["test"],
        "views": {name: kind or "center" for name, kind in kinds.items() if found[name]},
        "notes": classes.notes(
            dataset, trained.card.get("split_hash"), trained.trained_on, held_out=config.data.validation_share > 0
        ),
    }
    return result, predictions
