"""A training run under way: how far it is, its state, and what callbacks can do with it."""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from imgcls_jax import config as c
from imgcls_jax.display.console import Speed
from imgcls_jax.evaluation import calibration, predictions, thresholds
from imgcls_jax.evaluation.metrics import AnyMetrics
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import processes
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.record.documents import SCHEMA, CheckpointDocument, EpochRecord, EvaluationRecord, Figures, Result
from imgcls_jax.training import sound
from imgcls_jax.training.best import better
from imgcls_jax.training.callbacks import states
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.finite import NotFinite
from imgcls_jax.training.interruption import EvaluationAbandoned, Interrupted
from imgcls_jax.training.progress import Progress, StepMetrics
from imgcls_jax.training.resume import check_data, restore, resume_point
from imgcls_jax.training.state import TrainState

# Dispatches that a GPU or TPU may have under way before the host waits for the oldest; bounds the memory of streamed
# batches. A CPU is waited for at once: each step under way would have temporary memory of its own, and the host's part
# of a step is too small for a difference to be measured.
_IN_FLIGHT = 2


class Rewind(Exception):
    """Raised by a callback to send the run back to a good checkpoint. Its text says why."""


class Run:
    """A run under way. Callbacks may read everything here, and call `stop`, `interrupt`, `log`, `save` and `tell`.

    A context manager: entering it restores the newest checkpoint and calls every callback's `on_start`; leaving it
    calls every `on_end` and closes the checkpoints, however the run ends.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        callbacks: Sequence[Callback],
        *,
        command: str | None = None,
        waiting: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self.experiment = experiment
        """What the config and the data determine: the model, the data set, the compiled step."""
        self.config: c.Config = experiment.config
        self.workdir = workdir
        self.command = command
        """The command that continues the run; None for a call from Python."""
        self.waiting = waiting
        """Shows, within it, that something takes its time: `with run.waiting("compiling"): …`."""
        self.callbacks = tuple(callbacks)
        self.progress = Progress()
        self.state: TrainState
        """The newest state."""
        self.checkpoints: Checkpoints
        self.compiled: jax.stages.Compiled | None = None
        """The compiled step; None where there is nothing left to train."""
        self.resumed = False
        """Whether the run goes on from a checkpoint."""
        self.interrupted = False
        """Whether the run is to save and end, so that the same call continues it."""
        self.interruption_requested = False  # by a signal
        self.agreed_status: int | None = None
        """Of several processes that stop together: the exit status of all."""
        self.may_abandon_evaluation = False
        """Whether an evaluation goes on that may be given up, because the next start of the run repeats it."""
        self.is_saving = False  # which no exception may break off
        self.stops_at_once = False  # after that
        self.result: Result | None = None
        """Of a finished run."""
        self.predictions: dict[str, Predictions] = {}
        """What the best epoch predicts, by split; of a finished run, where `Logging.predictions` asks for it."""
        self.thresholds: list[float] | None = None
        """Those of several labels, tuned on the validation images; of such a run, where it keeps its predictions."""
        self.speed = Speed(self.config.batch_size, 0)
        """The clock of the epoch under way."""
        self._in_flight: collections.deque[StepMetrics] = collections.deque()
        self._state_epoch = self._compiled_epoch = 0
        self._saved_at: int | None = None
        self._stop_is_saved = False
        self._initial: dict[str, dict[str, Any]] = {}
        self._started = 0.0
        self._cleanup = contextlib.ExitStack()

    # ---- what callbacks read and call

    @property
    def step(self) -> int:
        """Steps since the start of the run that have been handed over to the device."""
        return self.progress.epoch * self.experiment.steps_per_epoch + self.progress.step_in_epoch

    @property
    def seconds(self) -> float:
        """Time spent training since the start of the run, over all its interruptions."""
        return time.perf_counter() - self._started

    @property
    def last_step_in_epoch(self) -> int:
        """The step with which the epoch under way ends: the last one of the epoch, or of the run."""
        steps, limit = self.experiment.steps_per_epoch, self.config.max_steps
        return steps if limit is None else min(steps, limit - self.progress.epoch * steps)

    @property
    def is_ending(self) -> bool:
        """Whether the epoch under way ends with the newest step."""
        # A step whose checkpoint says that the run goes on cannot be its last one: the next step is.
        stopped = self.progress.stopped is not None and self._saved_at != self.step
        return stopped or self.progress.step_in_epoch >= self.last_step_in_epoch

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        limit = self.config.max_steps
        done = self.progress.epoch >= self.config.epochs or (limit is not None and self.step >= limit)
        return done or self._stop_is_saved

    def learning_rate(self, step_in_epoch: int) -> float:
        """Return the learning rate of a step of the epoch under way, counted from 0."""
        step = self.progress.epoch * self.experiment.steps_per_epoch + step_in_epoch
        return self.progress.learning_rate_factor * self.experiment.schedule.at(step)

    def stop(self, reason: str) -> None:
        """End training after the newest step: the epoch is evaluated as far as it is, and the best one tested.

        The run is then finished; to end it so that the same call continues it, use `interrupt`.
        """
        self.progress.stopped = self.progress.stopped or reason

    def interrupt(self) -> None:
        """Save after the newest step and raise `Interrupted` out of `train`; the same call continues the run."""
        self.interrupted = True

    def request_interruption(self, status: int) -> None:
        """Interrupt the run on a signal: of several processes all together, after a step that they agree on."""
        self.interruption_requested = True
        if channel := processes.joined():
            channel.request_stop(status)
        elif not meshes.is_multi_process():
            self.interrupt()

    def log(self, **figures: float) -> None:
        """Add figures to the record of the epoch under way, or in `on_epoch` of the epoch that has just ended."""
        self.progress.figures.update(figures)

    def tell(self, text: str) -> None:
        """Show a sentence to the user."""
        for callback in self.callbacks:
            callback.on_message(self, text)

    def save(self, *, anchor: bool = False) -> None:
        """Save a checkpoint in the background, unless one of the newest step is there, or is made next because an
        epoch ends.

        Args:
          anchor: whether `Config.recover` may return to it; only for a step that the config determines, so that the
            run ends alike wherever it was interrupted.
        """
        if self._saved_at != self.step and not self.is_ending:
            self._save(anchor=anchor)

    def _save(self, *, anchor: bool) -> None:
        self.drain()
        if anchor and self.config.recover:
            self.progress.anchors = sound.anchors(self.progress.anchors, self.step, self.experiment.steps_per_epoch)
        self.is_saving = True
        try:
            self.checkpoints.save(self.step, self.state, self._document())
        finally:
            self.is_saving = False
        if self.stops_at_once:
            raise Interrupted("stopped at once")
        self._saved_at, self._stop_is_saved = self.step, self.progress.stopped is not None
        for callback in self.callbacks:
            callback.on_checkpoint(self)

    # ---- what the loop calls

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as opened:
            self.checkpoints = Checkpoints(self.workdir / "checkpoints")
            opened.callback(self.checkpoints.close)
            self._restore_newest()
            for callback in reversed(self.callbacks):  # the last one pushed ends first
                opened.callback(self._end, callback)
            for callback in self.callbacks:
                callback.on_start(self)
            if not self.resumed:
                self._apply_learning_rate_factor()
            self._cleanup = opened.pop_all()
        return self

    def _end(self, callback: Callback) -> None:
        callback.on_end(self, self.result)

    def __exit__(self, *error: Any) -> None:
        self._cleanup.__exit__(*error)

    def enter_epoch(self) -> None:
        """Make the state and the step ready for the epoch under way, and start its clock."""
        epoch = self.progress.epoch
        # After a rewind the step may be compiled for a later phase.
        if any(
            sound.phase_changes(self.experiment, other, epoch) for other in (self._state_epoch, self._compiled_epoch)
        ):
            self._compile()
        self._state_epoch = epoch
        self.speed = Speed(self.config.batch_size, self.progress.step_in_epoch)

    def _compile(self) -> None:
        epoch = self._compiled_epoch = self.progress.epoch
        with self.waiting("compiling"):
            self.state, self.compiled = self.experiment.enter_phase(self.state, epoch, previous=self._state_epoch)
            processes.wait()
        self._state_epoch = epoch

    def dispatches(self) -> Iterator[tuple[TrainState, AnyMetrics, int]]:
        """Run the rest of the epoch under way; see `TrainFeed.epoch`."""
        return self.experiment.training.epoch(
            self.state,
            self.progress.epoch,
            self.progress.step_in_epoch,
            last=self.last_step_in_epoch,
            every=[callback.every_steps for callback in self.callbacks if callback.every_steps],
            diagnose_every=self.config.log_every_steps,
        )

    def dispatched(self, metrics: AnyMetrics) -> None:
        """Call callbacks after a dispatch: `on_metrics` with what has reached the host meanwhile, then `on_step`."""
        epoch, step = self.progress.epoch, self.progress.step_in_epoch
        rate, training = self.learning_rate(step - 1), self.experiment.training
        self._in_flight.append(
            StepMetrics(epoch, step, self.step, rate, metrics, training.finite, training.diagnostics)
        )
        self.drain(leave=0 if meshes.platform(self.experiment.mesh) == "cpu" else _IN_FLIGHT)
        for callback in self.callbacks:
            if callback.every_steps is None or self.step % callback.every_steps == 0:
                callback.on_step(self)

    def drain(self, leave: int = 0) -> None:
        """Call `on_metrics` with the figures of all dispatches but the newest `leave`."""
        while len(self._in_flight) > leave:
            arrived = self._in_flight.popleft()
            for callback in self.callbacks:
                callback.on_metrics(self, arrived)

    def evaluate(self, names: Sequence[str], *, validation: bool) -> tuple[Figures | None, dict[str, Figures]]:
        """Evaluate the newest state: the validation images if asked for and there are any, and the named evaluators."""
        experiment = self.experiment
        variables = experiment.evaluation_variables(self.state, self.progress.epoch)
        own = experiment.validate(variables) if validation and experiment.validate else None
        return own, {name: experiment.evaluators[name](variables) for name in names}

    def evaluate_inside_epoch(self, names: Sequence[str], *, validation: bool) -> None:
        """Evaluate the newest state, and give the record to the callbacks."""
        self.drain()
        own, others = self.evaluate(names, validation=validation)
        record: EvaluationRecord = {
            "schema": SCHEMA,
            "kind": "evaluation",
            "epoch": self.progress.epoch,
            "step": self.step,
            "validation": own,
            "evaluators": others,
        }
        for callback in self.callbacks:
            callback.on_evaluation(self, record)

    def end_epoch(self) -> None:
        """Evaluate, record and save the epoch under way, as far as it has come; then go to the next one.

        An interruption may give the evaluation up; the epoch then has not ended, and its last step is what is saved.
        """
        progress, config = self.progress, self.config
        # The last evaluation of all is not repeated by a start that finds nothing left to train.
        final = progress.stopped is not None or self.step == config.max_steps
        may_abandon = not final and not meshes.is_multi_process()
        if self.interrupted and not final:
            return
        rate, speed = self.learning_rate(progress.step_in_epoch - 1), self.speed
        per_second = speed.images_per_second(progress.step_in_epoch)
        waited = speed.share(self.experiment.training.waited)
        train, before = self.state.metrics.result(), self.state
        self.state = self.experiment.end_epoch(self.state, progress.epoch)
        is_last = progress.epoch + 1 == config.epochs or final
        names = [e.name for e in config.evaluators if is_last or (progress.epoch + 1) % e.every_epochs == 0]
        try:
            self.may_abandon_evaluation = may_abandon
            validation, others = self.evaluate(names, validation=True)
        except EvaluationAbandoned:
            self.state = before
            return
        finally:
            self.may_abandon_evaluation = False
        record: EpochRecord = {
            "schema": SCHEMA,
            "kind": "epoch",
            "epoch": progress.epoch,
            "step": self.step,
            "learning_rate": rate,
            "train": train,
            "images_per_second": per_second,
            "waited_for_data": waited,
            "validation": validation,
            "evaluators": others,
            "seconds": self.seconds,
        }
        scale = self.state.loss_scale
        if scale is not None:
            record |= {"loss_scale": float(scale.scale), "skipped_steps": int(scale.skipped)}
        progress.history.append(record)
        progress.best = better(progress.history, progress.best, config)
        for callback in self.callbacks:
            callback.on_epoch(self, record)
            if progress.figures:
                record["figures"] = progress.figures
        progress.figures = {}
        self.state = self.experiment.empty_metrics(self.state)
        self._apply_learning_rate_factor()
        if progress.step_in_epoch == self.experiment.steps_per_epoch:
            progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        self._save(anchor=True)

    def save_and_stop(self) -> None:
        """Save the newest step, wait until it is on disk, and raise `Interrupted`."""
        if self._saved_at != self.step:
            self._save(anchor=False)
        self.checkpoints.wait()
        processes.wait()
        self.tell(f"stopped and saved; continue with:\n  {self.command or 'the same call'}")
        raise Interrupted

    def rewind(self, problem: str) -> None:
        """Go back to the newest good checkpoint, or to the start where there is none; later ones are deleted.

        Args:
          problem: what is not finite, and where.

        Raises:
          NotFinite: training cannot go on from any of them, whatever the learning rate.
        """
        recoveries = self.progress.recoveries + 1
        recovered_epochs = [*self.progress.recovered_epochs, self.progress.epoch]
        self._in_flight.clear()
        self.checkpoints.wait()
        good = sound.newest(self.experiment, self.checkpoints, self.progress, self._compiled_epoch)
        if good is None:
            raise NotFinite(problem, self.checkpoints.latest())
        step, self._compiled_epoch = good
        self.checkpoints.delete_after(step)
        newest = self.checkpoints.latest()
        saved = resume_point(self.checkpoints, newest)
        self._restore(newest, saved)
        states.load(self.callbacks, self._initial | saved["callbacks"])
        self.progress.recoveries, self.progress.recovered_epochs = recoveries, recovered_epochs
        self._apply_learning_rate_factor()
        for callback in self.callbacks:
            callback.on_rewind(self)

    def _apply_learning_rate_factor(self) -> None:
        factor = math.prod(callback.learning_rate_factor(self) for callback in self.callbacks)
        self.progress.learning_rate_factor = factor
        self.state = self.experiment.scale_learning_rate(self.state, factor)

    # ---- checkpoints

    def _restore_newest(self) -> None:
        self._initial = states.states(self.callbacks)
        saved = self.checkpoints.newest_sound(self._try, self.tell)
        self.resumed = saved is not None
        saved = saved or self._try(None)
        states.check(saved["callbacks"], self._initial, self.workdir)
        states.load(self.callbacks, saved["callbacks"])
        if not self.is_finished:
            if jax.process_index() == 0:
                self._forget_answers()
            self._compile()

    def _forget_answers(self) -> None:
        """Remove what was computed from the best epoch so far, which would be taken for a later one's."""
        fitted = [self.workdir / name for name in (thresholds.FILE, calibration.FILE, calibration.PICTURE)]
        if gone := [*predictions.kept(self.workdir), *(path for path in fitted if path.exists())]:
            for path in gone:
                path.unlink()
            self.tell(f"removed, as they are of the run so far: {', '.join(path.name for path in gone)}")

    def _try(self, step: int | None) -> CheckpointDocument:
        """Restore a checkpoint, or for None the start, and compile the step meanwhile."""
        saved = resume_point(self.checkpoints, step)
        if step is not None:
            check_data(saved["card"], self.experiment.dataset.split_hash, self.workdir)
            if (groups := saved.get("batch_groups", 1)) != self.experiment.batch_groups:
                self.experiment.group_batch_norm(groups)
                self.tell(
                    f"BatchNorm still normalizes a batch in {groups} parts, as on the devices that the run began on"
                )
        self._started = time.perf_counter() - saved["seconds"]
        self._read(saved)
        if not self.is_finished:
            self.experiment.compile_ahead(self.progress.epoch)
        self._restore(step, saved)
        return saved

    def _read(self, saved: CheckpointDocument) -> None:
        """Take the progress from a checkpoint's document."""
        self.progress = Progress.of(saved, self.experiment.steps_per_epoch)
        self._stop_is_saved = saved["stopped"] is not None

    def _restore(self, step: int | None, saved: CheckpointDocument) -> None:
        """Take progress and state from a checkpoint."""
        self._read(saved)
        self.state, self._state_epoch = restore(self.experiment, self.checkpoints, step, saved)
        self._saved_at = step

    def _document(self) -> CheckpointDocument:
        return {
            **self.progress.document(),  # type: ignore[typeddict-item]
            "seconds": self.seconds,
            "callbacks": states.states(self.callbacks),
            "batch_groups": self.experiment.batch_groups,
            "card": self.experiment.card(),
        }
