"""Where a run goes on: a checkpoint, or the start."""

from pathlib import Path

from imgcls_jax.data import split
from imgcls_jax.errors import UserError
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.record.documents import SCHEMA, CheckpointDocument, ModelCard, check
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import TrainState


def resume_point(checkpoints: Checkpoints, step: int | None) -> CheckpointDocument:
    """Return the document of a checkpoint, or what it would be before the first step, for which `step` is None."""
    if step is not None:
        saved = checkpoints.run(step)
        check(saved, f"the checkpoint of step {step}")
        return saved  # type: ignore[return-value]
    return {
        "schema": SCHEMA,
        "epoch": 0,
        "step": 0,
        "history": [],
        "recoveries": 0,
        "anchors": [],
        "learning_rate_factor": 1.0,
        "figures": {},
        "best": None,
        "seconds": 0.0,
        "stopped": None,
        "callbacks": {},
    }  # type: ignore[typeddict-item]


def check_data(card: ModelCard, split_hash: str, workdir: Path) -> None:
    """Raise UserError unless a checkpoint is of the same images, with the same labels, in the same splits."""
    if card["split_hash"] not in (None, split_hash):
        raise UserError(split.changed(workdir, str(card["split_hash"]), split_hash))


def restore(
    experiment: Experiment, checkpoints: Checkpoints, step: int | None, saved: CheckpointDocument
) -> tuple[TrainState, int]:
    """Return the state at a `resume_point` of a run, and the epoch that it belongs to."""
    if step is None:
        return experiment.initial_state(), 0
    # At an epoch's end the state is still that epoch's; the next one may train other parameters.
    state_epoch = saved["epoch"] if saved["step"] else max(saved["epoch"] - 1, 0)
    return checkpoints.state(step, experiment.abstract_state(state_epoch)), state_epoch
