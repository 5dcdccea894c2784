"""What is said about each image as a row of a table: calibrated, with a prediction set, or "unknown"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgcls_jax.display.console import percent
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.calibration import Calibration
from imgcls_jax.evaluation.predictions import named
from imgcls_jax.inference.prediction import Prediction, Unreadable

UNKNOWN = "unknown"
"""The class of an image that the model should not decide on."""

Row = dict[str, Any]
"""A value for each column; None where there is none."""


@dataclass(frozen=True)
class Answers:
    """Makes the rows: what is asked for, and the calibration of the run for it."""

    class_names: Sequence[str]
    calibration: Calibration | None = None
    """What was fitted for this model; None: nothing."""
    coverage: float | None = None
    """Of prediction sets, which need a calibration; None: there are none."""
    by_energy: bool = False
    """Whether images of a low energy score are unknown; needs a calibration that has a threshold."""
    temperature: bool = False
    """Whether probabilities are those at the calibration's temperature; else they are the network's own."""
    threshold: float = 0.0
    """Images whose most probable class has a lower probability are unknown."""
    top: int = 1
    """Number of classes that are named."""
    everything: bool = False
    """Whether there is a column for the probability of every class."""

    def __post_init__(self) -> None:
        if self.coverage is not None and self.calibration:
            self.calibration.threshold(self.coverage)  # a wrong one is said before the work
        if self.by_energy and self.calibration and self.calibration.least_energy is None:
            raise UserError(
                "a model with a sigmoid head, or of averaged views, has no energy by which images are unknown"
            )

    def line(self, row: Row) -> str:
        """Return what is shown of a row."""
        inside = f"  {{{', '.join(row['set'])}}}" if "set" in row else ""
        return f"{row['class']}  {percent(row['probability'])}{inside}  {row['file']}"

    def columns(self, outputs: int) -> list[str]:
        """Return the names of the columns, in order; `outputs`: number of classes that can be predicted."""
        ranked = [f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("class", "probability")]
        sets = ["set"] if self.coverage is not None else []
        energy = ["energy"] if self.by_energy else []
        every = [f"p({name})" for name in named(tuple(self.class_names), outputs)] if self.everything else []
        return ["file", "label", "class", "probability", "status", *ranked, *sets, *energy, *every]

    def row(self, result: Prediction | Unreadable) -> Row:
        """Return the row of an image; a prediction must have all its probabilities."""
        if isinstance(result, Unreadable):
            return unreadable(result)
        probabilities = self._probabilities(result)
        order = np.argsort(-probabilities, kind="stable")
        names = named(tuple(self.class_names), len(probabilities))
        best = int(order[0])
        row: Row = {
            "file": str(result.path),
            "label": best,
            "class": names[best],
            "probability": float(probabilities[best]),
            "status": "ok",
        }
        for rank, label in enumerate(order[1 : self.top].tolist(), start=2):
            row |= {f"class_{rank}": names[label], f"probability_{rank}": float(probabilities[label])}
        if self.coverage is not None and self.calibration:
            inside = self.calibration.sets(np.log(_positive(result.probabilities))[None], self.coverage)[0]
            row["set"] = [names[label] for label in order.tolist() if inside[label]]
        if self.by_energy:
            row["energy"] = result.energy
        if self._is_unknown(row, result):
            row |= {"label": None, "class": UNKNOWN}
        if self.everything:
            row |= {f"p({name})": float(share) for name, share in zip(names, probabilities, strict=True)}
        return row

    def _probabilities(self, result: Prediction) -> np.ndarray:
        own = _positive(result.probabilities)
        # Logarithms of probabilities are logits but for a constant, which the softmax does not see.
        return (
            own
            if self.calibration is None or not self.temperature
            else np.exp(self.calibration.log_probabilities(np.log(own)[None]))[0]
        )

    def _is_unknown(self, row: Row, result: Prediction) -> bool:
        least = self.calibration.least_energy if self.calibration and self.by_energy else None
        low = least is not None and result.energy is not None and result.energy < least
        return low or row["probability"] < self.threshold


def unreadable(result: Unreadable) -> Row:
    """Return the row of an image that cannot be read."""
    return {"file": str(result.path or result.image), "status": f"unreadable: {result.reason}"}


def _positive(probabilities: np.ndarray | None) -> np.ndarray:
    assert probabilities is not None, "predicted with all probabilities"
    return np.maximum(probabilities, np.finfo(np.float64).tiny)
