"""Write a run's figures: to metrics.jsonl always, to TensorBoard and Weights & Biases if asked for."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax import outputs
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.record import history, strict
from imgcls_jax.record.documents import SCHEMA, EpochRecord, EvaluationRecord, Result, StepRecord
from imgcls_jax.record.json_files import set_aside
from imgcls_jax.training.callbacks import weights_and_biases
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.weights_and_biases import WandB, scalars
from imgcls_jax.training.progress import StepMetrics
from imgcls_jax.training.run import Run

AnyRecord = Mapping[str, Any]
"""A record of any kind: see `record.documents`."""


class Loggers(Callback):
    """Writes the records of epochs, of evaluations inside them, and of every `Config.log_every_steps`-th step.

    After a restart or a rewind, what a later process wrote beyond the checkpoint is dropped: metrics.jsonl and
    TensorBoard hold every record once.
    """

    def __init__(self, config: c.Config):
        self._config = config
        self._writers: list[JsonLines | TensorBoard | WandB] = []

    def on_start(self, run: Run) -> None:
        logging, workdir = self._config.logging, run.workdir
        lines = JsonLines(workdir)
        self._writers = [lines]
        if logging.tensorboard:
            self._writers.append(TensorBoard(workdir / "tensorboard"))
        if logging.wandb_project and weights_and_biases.mode() != "disabled":
            self._writers.append(WandB(logging.wandb_project, self._config.name, files.to_tree(self._config), workdir))
        self.on_rewind(run)
        for note in lines.notes:
            run.tell(note)

    def on_rewind(self, run: Run) -> None:
        for writer in self._writers:
            writer.go_back(run.progress.history, run.step)

    def on_metrics(self, run: Run, metrics: StepMetrics) -> None:
        if metrics.diagnostics is not None:
            self._write(step_record(metrics))

    def on_evaluation(self, run: Run, record: EvaluationRecord) -> None:
        self._write(record)

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        self._write(record)

    def on_end(self, run: Run, result: Result | None) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def _write(self, record: AnyRecord) -> None:
        for writer in self._writers:
            writer.write(record)


def step_record(metrics: StepMetrics) -> StepRecord:
    """Make the record of a step whose diagnostics are there."""
    assert metrics.diagnostics is not None
    so_far = metrics.metrics.result()
    parameters = float(metrics.diagnostics.parameter_norm)
    return {
        "schema": SCHEMA,
        "kind": "step",
        "epoch": metrics.epoch,
        "step": metrics.step,
        "learning_rate": metrics.learning_rate,
        "loss": so_far["loss"],
        **({"top1": so_far["top1"]} if "top1" in so_far else {}),  # type: ignore[typeddict-item]
        "gradient_norm": float(metrics.diagnostics.gradient_norm),
        "parameter_norm": parameters,
        "update_ratio": float(metrics.diagnostics.update_norm) / max(parameters, 1e-30),
    }


class JsonLines:
    """metrics.jsonl: a line per record, on disk at once."""

    def __init__(self, workdir: Path):
        self._workdir, self._path = workdir, workdir / "metrics.jsonl"
        self.notes: list[str] = []
        """Sentences on damage that was found."""

    def go_back(self, epochs: list[EpochRecord], step: int) -> None:
        """Hold exactly these epochs, and the other records up to a step."""
        try:
            old = history.read(self._workdir)
        except UserError:  # the epochs, which the checkpoint has, are written anew
            old = []
            self.notes.append(set_aside(self._path))
        others = [r for r in old if r["kind"] != "epoch" and r["step"] <= step]
        # An epoch's record comes after all others of its steps.
        records = sorted([*others, *epochs], key=lambda r: (r["step"], r["kind"] == "epoch"))
        outputs.write_text(self._path, "".join(_line(record) for record in records))

    def write(self, record: AnyRecord) -> None:
        with self._path.open("a") as file:
            file.write(_line(record))

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files: the figures of epochs over the epochs, all others over the steps."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._epochs: Any = None
        self._steps: Any = None

    def go_back(self, epochs: list[EpochRecord], step: int) -> None:
        """Drop the events after these epochs and after this step."""
        self.close()
        self._epochs = _summary_writer(self._folder, purge_step=len(epochs))
        self._steps = None
        if (self._folder / "steps").exists():
            self._open_steps(step)

    def write(self, record: AnyRecord) -> None:
        if record["kind"] == "epoch":
            writer, prefix, place = self._epochs, "", record["epoch"]
        else:
            writer, prefix, place = self._steps or self._open_steps(record["step"] - 1), "steps/", record["step"]
        for name, value in scalars(record).items():
            writer.add_scalar(prefix + name, value, place)
        writer.flush()

    def close(self) -> None:
        for writer in (self._epochs, self._steps):
            if writer is not None:
                writer.close()

    def _open_steps(self, step: int) -> Any:
        # In a folder of their own: a restart purges what comes after a number, which is an epoch there and a step here.
        self._steps = _summary_writer(self._folder / "steps", purge_step=step + 1)
        return self._steps


def _line(record: AnyRecord) -> str:
    return json.dumps(strict.encode(record), allow_nan=False) + "\n"


def _summary_writer(folder: Path, *, purge_step: int) -> Any:
    # tensorboardX imports torch where it is installed, for inputs that are never given here: seconds, and memory.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=purge_step)
