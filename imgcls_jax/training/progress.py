"""How far a run is, and the figures of its steps."""

import dataclasses
from typing import Any

from jaxtyping import Array, Bool

from imgcls_jax.evaluation.metrics import AnyMetrics
from imgcls_jax.record import strict
from imgcls_jax.record.documents import SCHEMA, CheckpointDocument, EpochRecord
from imgcls_jax.training.steps import Diagnostics


@dataclasses.dataclass
class Progress:
    """How far a run is: all that a checkpoint holds besides arrays."""

    epoch: int = 0
    """The epoch under way, counted from 0."""
    step_in_epoch: int = 0
    """Steps of that epoch that have been handed over to the device."""
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    """The records of finished epochs."""
    best: int | None = None
    """The best epoch so far, counted from 0."""
    anchors: list[int] = dataclasses.field(default_factory=list)
    """Steps of the checkpoints to which `Config.recover` may return, the newest first."""
    recovered_epochs: list[int] = dataclasses.field(default_factory=list)
    """The epochs in which the run went back, counted from 0, in the order of time."""
    recoveries: int = 0
    """How often the run has gone back from a loss that was not finite."""
    learning_rate_factor: float = 1.0
    """Product of the callbacks' factors on the schedule's learning rate."""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What callbacks have logged in the epoch under way."""
    stopped: str | None = None
    """Why a callback stopped the run."""

    @classmethod
    def of(cls, saved: CheckpointDocument, steps_per_epoch: int) -> "Progress":
        """Read the progress from a checkpoint's document."""
        history: list[Any] = [strict.decode(dict(record)) for record in saved["history"]]
        return cls(
            epoch=saved["epoch"],
            step_in_epoch=saved["step"],
            history=history,
            # Stored, because that checkpoint is kept and no other: an older version broke ties in another way.
            best=next((i for i, record in enumerate(history) if record["step"] == saved["best"]), None),
            anchors=saved.get("anchors", [saved["epoch"] * steps_per_epoch + saved["step"]]),
            recovered_epochs=saved.get("recovered_epochs", []),
            recoveries=saved["recoveries"],
            learning_rate_factor=saved["learning_rate_factor"],
            figures=saved["figures"],
            stopped=saved["stopped"],
        )

    def document(self) -> dict[str, Any]:
        """Return what a checkpoint's document says of it; a copy, because it is written in the background."""
        return {
            "schema": SCHEMA,
            "epoch": self.epoch,
            "step": self.step_in_epoch,
            "history": strict.encode(self.history),
            "best": None if self.best is None else self.history[self.best]["step"],
            "anchors": self.anchors,
            "recovered_epochs": self.recovered_epochs,
            "recoveries": self.recoveries,
            "learning_rate_factor": self.learning_rate_factor,
            "figures": strict.encode(self.figures),
            "stopped": self.stopped,
        }


@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """The figures of a dispatch, once they have reached the host."""

    epoch: int
    """Counted from 0."""
    step_in_epoch: int
    """Steps of the epoch up to the dispatch's end."""
    step: int
    """Steps since the start of the run up to the dispatch's end."""
    learning_rate: float
    """Of the dispatch's last step."""
    metrics: AnyMetrics
    """Sums over the epoch so far; `metrics.result()` makes means of them."""
    finite: Bool[Array, ""]
    """Whether parameters, statistics and the optimizer's state are finite after the dispatch."""
    diagnostics: Diagnostics | None
    """Norms of the dispatch's last step; None unless `Config.log_every_steps` asks for them at this step."""
