"""Check the settings of named evaluators, and load their images."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import classes


def settings(evaluator: c.Evaluator, own: c.Data) -> c.Data:
    """Return the data settings of an evaluator: the run's own, with what the evaluator overrides."""
    canvas = evaluator.canvas or own.eval_canvas or own.canvas
    changes = {name: value for name in ("image_size", "mean", "std") if (value := getattr(evaluator, name)) is not None}
    if evaluator.source is None:
        return dataclasses.replace(own, eval_canvas=canvas, **changes)
    # All images of another source are seen as in evaluation, and none are held out.
    return dataclasses.replace(
        own,
        source=evaluator.source,
        canvas=canvas,
        eval_canvas=None,
        validation_share=0.0,
        test_share=0.0,
        sampling="shuffle",
        **changes,
    )


def check(config: c.Config) -> None:
    """Raise UserError for the first evaluator whose settings contradict each other or the run's."""
    names = [evaluator.name for evaluator in config.evaluators]
    for index, evaluator in enumerate(config.evaluators):
        where = f'evaluators[{index}] ("{evaluator.name}")'
        if evaluator.name in names[:index]:
            raise UserError(f"{where} has the name of another evaluator: rename one of them")
        try:
            data.check(as_evaluated(settings(evaluator, config.data)))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if config.best.metric.startswith(f"{evaluator.name}/") and evaluator.every_epochs > 1:
            raise UserError(
                f"best.metric = {config.best.metric!r} needs a figure of every epoch: set every_epochs of {where} to 1"
            )


def load_splits(
    config: c.Config, dataset: data.Dataset, *, arrays: Mapping[str, np.ndarray] | None = None
) -> dict[str, data.Split]:
    """Load the images of every evaluator, labeled by the classes of the training images.

    Args:
      config: the experiment.
      dataset: the run's own images.
      arrays: those in memory, where the run's own source is `Arrays()` without a path.

    Returns:
      The images by the evaluator's name.

    Raises:
      UserError: a source is not as its settings say, lacks the split, or has a class that is not trained.
    """
    return {evaluator.name: _load(evaluator, config, dataset, arrays) for evaluator in config.evaluators}


def _load(
    evaluator: c.Evaluator, config: c.Config, dataset: data.Dataset, arrays: Mapping[str, np.ndarray] | None
) -> data.Split:
    wanted = settings(evaluator, config.data)
    if evaluator.source is not None:
        loaded, name = data.load(wanted), evaluator.split or "train"
    else:
        name = evaluator.split or "validation"
        own = config.data.canvas if name == "train" else config.data.eval_canvas or config.data.canvas
        same = wanted.eval_canvas == own
        loaded = dataset if same else data.load(as_evaluated(wanted), arrays=arrays)
    if getattr(loaded, name) is None:
        raise UserError(f'the evaluator "{evaluator.name}" asks for {name} images, which its source does not have')
    try:
        return getattr(classes.matched(loaded, dataset.class_names), name)
    except UserError as error:
        raise UserError(f'the evaluator "{evaluator.name}": {error}') from None


def as_evaluated(wanted: c.Data) -> c.Data:
    """Return the same settings with training images on the canvases of evaluation."""
    return dataclasses.replace(wanted, canvas=wanted.eval_canvas or wanted.canvas)
