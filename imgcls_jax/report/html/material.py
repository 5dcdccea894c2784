"""What a page needs of a run, read when it is first asked for."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt

from imgcls_jax.data import Dataset, Split
from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import classes, figures
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.inference import restore
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.report.record import RunRecord


@dataclass(frozen=True, eq=False)
class Material:
    """A run, and what was kept of it. What is not there raises UserError, whose sentence is shown in its place."""

    run: RunRecord
    asked: str | None
    """The split of the predictions: "test", "validation" or "none"; None: the test split where its predictions are
    kept, or else the validation split."""

    @property
    def split_name(self) -> str:
        """The split whose predictions are shown."""
        if self.asked == "none":
            raise UserError("not wanted (--confusion none)")
        there = (name for name in ("test", "validation") if keep.path_of(self.run.workdir, name).exists())
        return self.asked or next(there, "test")

    @functools.cached_property
    def kept(self) -> Predictions:
        """The predictions, whatever was learned."""
        return keep.load(keep.path_of(self.run.workdir, self.split_name))

    @functools.cached_property
    def predictions(self) -> Predictions:
        """The predictions of one class per image, all of them finite."""
        made = self.kept
        if made.task != "classes":
            raise UserError(f"this is for runs that predict one class per image; this run predicts {made.task}")
        made.check_finite()
        return made

    @functools.cached_property
    def figures(self) -> figures.Document:
        """All figures of the predictions with their intervals, as `imgcls evaluate` prints them."""
        return figures.compute(self.predictions)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The run's data, with the labels of the run."""
        return classes.matched(load_data(self.run.config.data), self.trained.class_names)

    @functools.cached_property
    def trained(self) -> TrainedModel:
        """The parameters of the best epoch."""
        return restore.of_run(self.run.workdir)

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The network of the best epoch, which sees the center of each image."""
        return Classifier(self.trained, views="center")

    @functools.cached_property
    def split(self) -> Split:
        """The images of the predictions, in their order."""
        name, made = self.split_name, self.predictions
        split = self.dataset.test if name == "test" else self.dataset.validation
        if split is None or tuple(split.ids) != made.names:
            raise UserError(
                f"the {name} images are no longer those of the predictions: "
                f"`imgcls evaluate --workdir {self.run.workdir}` makes them anew"
            )
        return split

    def images(self, rows: np.ndarray) -> list[UInt[np.ndarray, "h w c"]]:
        """Read the canvases of some images of the predictions."""
        return list(self.split.read(rows)) if len(rows) else []
