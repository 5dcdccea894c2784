"""A classifier whose outputs an exported program computes: an .onnx or .stablehlo file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Float32

from imgcls_jax import config as c
from imgcls_jax.config import io
from imgcls_jax.config.experiment import Views
from imgcls_jax.data.dataset import Dataset, Split
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import metrics
from imgcls_jax.evaluation.predictions import Predictions, named
from imgcls_jax.evaluation.steps import build_eval_step
from imgcls_jax.export import batches, standalone
from imgcls_jax.inference import decide
from imgcls_jax.inference.classifier import Classifier, LookAt
from imgcls_jax.inference.explanation import Explanation
from imgcls_jax.inference.images import Images
from imgcls_jax.inference.prediction import Unreadable
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.optim.losses import Loss
from imgcls_jax.record.documents import Evaluation, Figures


class ExportedClassifier(Classifier):
    """A classifier from an exported program, which `Classifier.load` makes.

    It predicts and evaluates, at the file's precision, test-time views and temperature. A file holds no parameters by
    name, so that there are no features, no explanations and no further exports.
    """

    def __init__(self, path: str | Path, config: c.Config | None = None, views: LookAt | None = None):
        """Open a file whose checksum is right; for the arguments and errors see `Classifier.load`.

        `config`, where one is given, names the data and metrics in place of the file's own.
        """
        try:
            about = standalone.document(path)
            self._function = batches.load(Path(path))
        except standalone.Unusable as error:
            raise UserError(str(error)) from None
        self._path, self._temperature = Path(path), float(about["temperature"])
        card = about["model_card"]
        config = config or io.from_document(card["config"], str(path))
        self._trained = TrainedModel(config, tuple(card["class_names"]), {}, {}, card)
        inside = about["preprocessing"]["views"]
        self._views: Views | None = None if inside == "center" else inside
        self._check(views)
        self._batch = config.eval_batch_size or config.batch_size

    # ---- what a file does not hold

    @property
    def network(self) -> nnx.Module:
        """Raise UserError: there is none."""
        self._lacks("a network")

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Raise UserError: there are none by name."""
        self._lacks("parameters by name")

    def features(self, images: Images) -> Float32[np.ndarray, "*n features"]:
        """Raise UserError: only what the head makes of them comes out of the file."""
        self._lacks("features")

    def explain(
        self, images: Images, *, class_name: str | int | None = None, stage: str | None = None, neighbors: int = 0
    ) -> Explanation | list[Explanation]:
        """Raise UserError: no gradient goes through the file."""
        self._lacks("gradients")

    def export(self, path: str | Path, **_: Any) -> list[Path]:
        """Raise UserError: it is exported already."""
        self._lacks("parameters by name")

    def _lacks(self, what: str) -> NoReturn:
        raise UserError(
            f"{self._path} holds a program, and not {what}: use the run's folder, or export to safetensors, which "
            "Classifier.load reads as the whole model"
        )

    # ---- what it does

    def probabilities(self, images: Images) -> Float[np.ndarray, "*n classes"]:
        """Compute the probability of each class, at the file's temperature; see `Classifier.probabilities`."""
        return decide.probabilities(self.logits(images) / np.float32(self._temperature), self.config.loss.task)

    def evaluate(
        self, data: c.Data | c.Source | None = None, *, views: LookAt | None = None, arrays: Any = None
    ) -> Evaluation:
        """Evaluate as `Classifier.evaluate` does, both splits with the file's own views."""
        return self.evaluate_images(data, views=views, arrays=arrays)[0]

    def evaluate_images(
        self, data: c.Data | c.Source | None = None, *, views: LookAt | None = None, arrays: Any = None
    ) -> tuple[Evaluation, dict[str, Predictions]]:
        """Evaluate as `Classifier.evaluate_images` does, both splits with the file's own views."""
        self._check(views)
        return super().evaluate_images(data, views=self._views or "center", arrays=arrays)

    def _check(self, views: LookAt | None) -> None:
        inside = self._views or "center"
        if views not in (None, inside):
            raise UserError(
                f"{self._path} sees images as {inside}, which cannot be changed: export the run with --views {views}"
            )

    def _each(self, images: Images) -> Iterator[tuple[Path | None, Float32[np.ndarray, " outputs"] | Unreadable]]:
        for path, row in super()._each(images):
            yield path, row if isinstance(row, Unreadable) else row / np.float32(self._temperature)

    @property
    def _logits(self) -> Callable[[np.ndarray], np.ndarray]:  # type: ignore[override]
        return lambda canvases: np.asarray(self._function(canvases)[1])

    def _compute(self, function: Callable[..., Any], canvases: Sequence[np.ndarray], *others: np.ndarray) -> Any:
        return function(np.stack(canvases))

    def _measure(
        self, config: c.Config, dataset: Dataset, split: Split, loss: Loss, views: Views | None
    ) -> tuple[Figures, Predictions]:
        rows = [np.arange(start, min(start + self._batch, len(split))) for start in range(0, len(split), self._batch)]
        logits = np.concatenate([self._logits(split.read(part)) for part in rows]) / np.float32(self._temperature)
        # The metrics of all images at once, of outputs that are already there.
        step = build_eval_step(
            lambda _, outputs: outputs, loss=loss, num_classes=logits.shape[1], metrics=config.metrics
        )
        nothing = metrics.init(config.metrics, logits.shape[1], split.labels)
        batch = {"image": logits, "label": split.labels, "mask": np.ones(len(split), bool)}
        figures, _ = jax.jit(step)(({}, {}), nothing, jax.tree.map(jnp.asarray, batch))
        names = named(self.class_names, logits.shape[1])
        found = metrics.result(figures, config.metrics, logits, split.labels)
        return found, Predictions(logits, split.labels, tuple(split.ids), names, split.name, views or "center")
