"""Show a run to a person: tables at the start, a progress bar, a line per epoch, a table at the end."""

import contextlib
import functools
from collections.abc import Callable

import jax

from imgcls_jax.display import console as display
from imgcls_jax.record.documents import EpochRecord, EvaluationRecord, Result
from imgcls_jax.training import summary
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.progress import StepMetrics
from imgcls_jax.training.run import Run


class Console(Callback):
    """Prints to the terminal, for the first process of a run; what is said is in `training.summary`."""

    def __init__(self, *, command: str | None = None, silent: bool = False):
        """
        Args:
          command: how the user continues the run, to be shown.
          silent: print nothing.
        """
        self.command, self._silent = command, silent
        self._table: summary.EpochTable
        self._bar = contextlib.ExitStack()
        self._update: Callable[[int, Callable[[], str]], None] | None = None

    @functools.cached_property
    def display(self) -> display.Console:
        """Where everything is printed."""
        return display.Console(silent=self._silent or jax.process_index() > 0)

    def on_start(self, run: Run) -> None:
        summary.start(self.display, run.experiment, run.state, run.compiled, run.workdir)
        if run.resumed:
            self.display.line(f"continuing at epoch {run.progress.epoch + 1}, step {run.progress.step_in_epoch + 1}")
        validated = run.experiment.dataset.validation is not None
        self._table = summary.EpochTable(run.config, validated=validated)
        self.display.line("")
        self.display.line(self._table.header(), style="bold")

    def on_metrics(self, run: Run, metrics: StepMetrics) -> None:
        if self._update is None:
            first, steps = run.progress.step_in_epoch - 1, run.experiment.steps_per_epoch
            self._update = self._bar.enter_context(
                self.display.progress(metrics.epoch, run.config.epochs, first, steps)
            )
        self._update(metrics.step_in_epoch, functools.partial(summary.progress, run.experiment, metrics, run.speed))

    def on_evaluation(self, run: Run, record: EvaluationRecord) -> None:
        self.display.line(summary.evaluation(record))

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        self._close_bar()
        is_best = record["validation"] is not None and run.progress.best == record["epoch"]
        self.display.line(self._table.row(record, best=is_best), style="green" if is_best else None)

    def on_rewind(self, run: Run) -> None:
        self._close_bar()

    def on_message(self, run: Run, text: str) -> None:
        self.display.line(text)

    def on_end(self, run: Run, result: Result | None) -> None:
        self._close_bar()
        if result is not None:
            summary.finish(self.display, result, run.workdir, run.predictions)

    def _close_bar(self) -> None:
        self._bar.close()
        self._update = None
