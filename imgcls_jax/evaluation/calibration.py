"""Confidence that can be trusted, fitted on validation predictions: a temperature, prediction sets, and "unknown".

- The temperature divides the logits, so that the log loss of the validation images is least (Guo et al., 2017). It does
  not change which class is the most probable.
- A prediction set holds every class whose calibrated probability is at least 1 − q, q being the conformal quantile of
  1 − probability of the true class (split conformal prediction, "LAC": Sadinle et al., 2019), and at least the most
  probable class. Of images of the same kind as the validation images, at least the chosen share have their class in it.
- An image is "unknown" where the energy score of its logits, log Σ exp z, is below a quantile of the validation images'
  (Liu et al., 2020).

A run keeps it in calibration.json. Wherever its model is read, it is the field "calibration" of the model card, and so
it is in every published and exported file.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int32

from imgcls_jax.config.experiment import Views
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import scores
from imgcls_jax.evaluation.predictions import Predictions, log_softmax
from imgcls_jax.record import documents
from imgcls_jax.record.json_files import read_json, write_json

FILE, PICTURE = "calibration.json", "reliability.png"
COVERAGES = tuple(percent / 100 for percent in range(50, 100))
"""Shares of images whose set is to hold their class, for which thresholds are kept."""
_LARGEST = 100.0  # temperature; its inverse is the smallest


@dataclass(frozen=True)
class Calibration:
    """What was fitted on the validation predictions of a model; calibration.json."""

    images: int
    """Validation images that it was fitted on."""
    views: Views | Literal["center"]
    """How they were seen: it holds for images that are seen in the same way."""
    temperature: float
    """Logits are divided by it; above 1 the network was too confident."""
    thresholds: dict[str, float]
    """By coverage ("0.95"): the least calibrated probability of a class in a set; 0 where images are too few."""
    known: float
    """Share of the validation images that are not "unknown"."""
    least_energy: float | None
    """Images whose energy score is below are "unknown"; None for a sigmoid head or averaged views, which have none."""

    def log_probabilities(self, logits: Float64[np.ndarray, "n classes"]) -> Float64[np.ndarray, "n classes"]:
        """Compute the logarithm of the calibrated probabilities from logits or log-probabilities."""
        return log_softmax(logits / self.temperature)

    def threshold(self, coverage: float) -> float:
        """Return the least calibrated probability of a class in a set.

        Raises:
          UserError: there is none for this coverage.
        """
        found = self.thresholds.get(f"{coverage:.2f}")
        if found is None or not math.isclose(coverage, round(coverage, 2)):
            raise UserError(f"the coverage of sets is {coverage}, but must be a whole percentage from 0.50 to 0.99")
        return found

    def sets(self, logits: Float64[np.ndarray, "n classes"], coverage: float) -> np.ndarray:
        """Return bool [n, classes]: the classes in the prediction set of each image."""
        probabilities = np.exp(self.log_probabilities(logits))
        best = probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])
        return best | (probabilities >= self.threshold(coverage))


def fit(predictions: Predictions, *, known: float = 0.95) -> Calibration:
    """Fit temperature, prediction sets and the threshold of "unknown".

    Args:
      predictions: of images that the model was not trained on.
      known: share of these images that must not be called "unknown", in (0, 1).

    Raises:
      UserError: an output is not finite.
    """
    predictions.check_finite()
    logits, labels = predictions.class_logits, predictions.labels
    best = temperature(logits, labels)
    own = np.exp(log_softmax(logits / best)[np.arange(len(labels)), labels])
    thresholds = {f"{coverage:.2f}": _lower_quantile(own, coverage) for coverage in COVERAGES}
    scores = energy(logits)
    single = predictions.logits.shape[1] == 1 or predictions.views != "center"
    least = None if single else _lower_quantile(scores, known, at_least=-np.inf)
    if least is not None and math.isinf(least):  # too few images: none is unknown
        least = float(scores.min())
    views: Views | Literal["center"] = predictions.views  # type: ignore[assignment]
    return Calibration(len(labels), views, best, thresholds, known, least)


def temperature(logits: Float64[np.ndarray, "n classes"], labels: Int32[np.ndarray, " n"]) -> float:
    """Return the temperature of the least log loss, in [0.01, 100]."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(logits / math.exp(log_temperature), labels)

    edge = math.log(_LARGEST)
    # The log loss is convex in 1 / temperature, so that it has one minimum in the logarithm too.
    return math.exp(minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-9}).x)


def log_loss(logits: Float64[np.ndarray, "n classes"], labels: Int32[np.ndarray, " n"]) -> float:
    """Compute the mean of −log of the true class's probability, which counts as at least 2.2e-16."""
    own = log_softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.maximum(own, math.log(np.finfo(np.float64).eps)).mean())


def energy(logits: Float64[np.ndarray, "n classes"]) -> Float64[np.ndarray, " n"]:
    """Compute the energy score log Σ exp z of each row: low for images unlike those of the training."""
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def _lower_quantile(values: Float64[np.ndarray, " n"], coverage: float, at_least: float = 0.0) -> float:
    """The value that a further one reaches with a probability of at least `coverage`: the conformal quantile.

    `at_least` where the values are too few.
    """
    rank = math.ceil((len(values) + 1) * coverage - 1e-9)  # counted from the highest, which is 1
    return at_least if rank > len(values) else float(np.sort(values)[len(values) - rank])


@dataclass(frozen=True)
class Measured:
    """What a calibration does on some images."""

    before: Float64[np.ndarray, "n classes"]
    after: Float64[np.ndarray, "n classes"]
    """Probabilities without and with the temperature."""
    figures: dict[str, tuple[float, float]]
    """Before and after, by name: "log_loss", "ece"."""
    sets: dict[float, tuple[float, float]]
    """By coverage: share of images whose set holds their class, mean number of classes in a set."""


def measure(calibration: Calibration, predictions: Predictions, coverages: tuple[float, ...]) -> Measured:
    """Measure a calibration on images, which should not be those that it was fitted on.

    Args:
      calibration: of the same model, for the same views.
      predictions: whose outputs are finite.
      coverages: of `COVERAGES`.
    """
    logits, labels = predictions.class_logits, predictions.labels
    after = np.exp(calibration.log_probabilities(logits))
    loss = log_loss(logits, labels), log_loss(logits / calibration.temperature, labels)
    right = predictions.right
    error = [scores.calibration_error(each.max(axis=1), right) for each in (predictions.probabilities, after)]
    sets = {}
    for coverage in coverages:
        inside = calibration.sets(logits, coverage)
        holds = inside[np.arange(len(labels)), labels]
        sets[coverage] = float(holds.mean()), float(inside.sum(axis=1).mean())
    return Measured(predictions.probabilities, after, {"log_loss": loss, "ece": (error[0], error[1])}, sets)


def save(calibration: Calibration, workdir: Path) -> None:
    """Write calibration.json into a work directory."""
    write_json(workdir / FILE, asdict(calibration))


def load(workdir: Path) -> Calibration | None:
    """Read what `imgcls calibrate` wrote into the work directory of a run; None where it was not called.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    try:
        return _of_document(read_json(path), str(path))
    except UserError as error:
        raise UserError(f"{error}; `imgcls calibrate --workdir {workdir}` writes it again") from None


def of_card(card: Mapping[str, Any], source: str | Path) -> Calibration:
    """Return the calibration in a model card.

    Args:
      card: of a trained model.
      source: where the model was read from, for the message.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if (found := card.get("calibration")) is None:
        run = Path(source)
        if (run / "checkpoints").exists():
            raise UserError(f"{source} is not calibrated: `imgcls calibrate --workdir {source}` does it")
        raise UserError(
            f"{source} is not calibrated: calibrate the run that it comes from, and push or export it again"
        )
    return _of_document(found, f"the calibration of {source}")


def _of_document(found: Any, what: str) -> Calibration:
    fitted: Calibration = documents.check_fields(found, Calibration, what)
    return fitted
