"""Write a run's figures: to metrics.jsonl always, to TensorBoard and to services if asked for."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.augment import Phase
from imgcls_jax.config import io as files
from imgcls_jax.disk import outputs
from imgcls_jax.doctor import preview
from imgcls_jax.errors import UserError
from imgcls_jax.record import history, strict
from imgcls_jax.record.documents import SCHEMA, EpochRecord, EvaluationRecord, Result, StepRecord
from imgcls_jax.record.json_files import set_aside
from imgcls_jax.training.callbacks import mlflow_logger, trackio_logger, weights_and_biases
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.logger import AnyRecord, Logger
from imgcls_jax.training.callbacks.tensorboard import TensorBoard
from imgcls_jax.training.progress import StepMetrics
from imgcls_jax.training.run import Run

_SERVICES: dict[str, tuple[Callable[[], None], type[Logger]]] = {
    "wandb_project": (weights_and_biases.check, weights_and_biases.WandB),
    "mlflow_experiment": (mlflow_logger.check, mlflow_logger.MLflow),
    "trackio_project": (trackio_logger.check, trackio_logger.Trackio),
}
"""By the settings that ask for them: what raises UserError where one cannot be used, and the logger."""

_AT_THE_END = ("mistakes", "confusion")
"""Pictures of the best epoch: files of the work directory, without ".png"."""


def check(settings: c.Logging) -> None:
    """Raise UserError where a service that is asked for cannot be used."""
    for name, (check_one, _) in _SERVICES.items():
        if getattr(settings, name):
            check_one()


class Loggers(Callback):
    """Writes the records of epochs, of evaluations inside them, and of every `Config.log_every_steps`-th step.

    After a restart or a rewind, what a later process wrote beyond the checkpoint is dropped: metrics.jsonl and
    TensorBoard hold every record once; services keep what they have.
    """

    def __init__(self, config: c.Config):
        self._config = config
        self._loggers: list[Logger] = []
        self._preview: Future[list[tuple[Phase, Image.Image]]] | None = None

    def on_start(self, run: Run) -> None:
        settings = self._config.logging
        lines = JsonLines(run.workdir)
        self._loggers = [lines]
        if settings.tensorboard:
            self._loggers.append(TensorBoard(run.workdir / "tensorboard"))
        self._loggers += self._services(run.workdir)
        self.on_rewind(run)
        for note in lines.notes:
            run.tell(note)
        named = self._config.loss.task == "classes"  # each image is drawn with the name of its class
        if settings.pictures and named and not run.progress.history and len(self._loggers) > 1:
            # In the background, because the augmentation alone is compiled for it: seconds.
            dataset = run.experiment.dataset
            pool = ThreadPoolExecutor(1, "preview")
            self._preview = pool.submit(lambda: [*preview.sheets(self._config, dataset, images=4, draws=4)])
            pool.shutdown(wait=False)  # its thread ends with the work

    def _services(self, workdir: Path) -> Iterator[Logger]:
        for setting, (_, service) in _SERVICES.items():
            value = getattr(self._config.logging, setting)
            if not value or (setting == "wandb_project" and weights_and_biases.mode() == "disabled"):
                continue
            try:
                yield service(value, self._config.name, files.to_tree(self._config), workdir)  # type: ignore[call-arg]
            except UserError:
                raise
            except Exception as error:  # each has errors of its own
                raise UserError(
                    f"logging.{setting} = {value!r}: {service.name} cannot be used ({_first_line(error)}): "
                    "mend that, or leave the setting out"
                ) from None

    def on_rewind(self, run: Run) -> None:
        self._each(run, lambda logger: logger.go_back(run.progress.history, run.step))

    def on_metrics(self, run: Run, metrics: StepMetrics) -> None:
        if metrics.diagnostics is not None:
            self._write(run, step_record(metrics))

    def on_evaluation(self, run: Run, record: EvaluationRecord) -> None:
        self._write(run, record)

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        self._write(run, record)
        self._show_preview(run)

    def on_end(self, run: Run, result: Result | None) -> None:
        if result is not None:
            self._each(run, lambda logger: logger.finish(result))
            drawn = next(iter(run.predictions.values()), None)
            if self._config.logging.pictures and drawn is not None and drawn.is_finite:
                for name in _AT_THE_END:
                    if (path := run.workdir / f"{name}.png").exists():
                        with Image.open(path) as picture:
                            self._picture(run, name, picture.convert("RGB"), epoch=result["epochs"])
        self._each(run, lambda logger: logger.close())
        self._loggers = []

    def _show_preview(self, run: Run) -> None:
        if self._preview is None:
            return
        drawn, self._preview = self._preview, None
        try:
            for phase, sheet in drawn.result():
                self._picture(run, f"preview_epoch_{phase.from_epoch}", sheet, epoch=0)
        except Exception as error:  # a picture must not end a training
            run.tell(f"note: there is no picture of the augmented images: {_first_line(error)}")

    def _picture(self, run: Run, name: str, image: Image.Image, *, epoch: int) -> None:
        self._each(run, lambda logger: logger.picture(name, image, epoch=epoch, step=run.step))

    def _write(self, run: Run, record: AnyRecord) -> None:
        self._each(run, lambda logger: logger.write(record))

    def _each(self, run: Run, do: Callable[[Logger], None]) -> None:
        """Do something with each logger; a service that fails is left out from then on, and that is told."""
        for logger in tuple(self._loggers):
            try:
                do(logger)
            except Exception as error:  # each has errors of its own
                if not logger.is_service:
                    raise
                self._loggers.remove(logger)
                run.tell(
                    f"note: {logger.name} gets no more figures of this run, which goes on without it: "
                    f"{_first_line(error)}"
                )


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


class JsonLines(Logger):
    """metrics.jsonl: a line per record, on disk at once."""

    name = "metrics.jsonl"

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


def _line(record: AnyRecord) -> str:
    return json.dumps(strict.encode(record), allow_nan=False) + "\n"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
