"""The base class of everything that watches a run, or stops it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls_jax.record.documents import EpochRecord, EvaluationRecord, Result
    from imgcls_jax.training.run import Run, StepMetrics


class Callback:
    """Watches a run, or stops it. Subclass it and override the methods that you need; each does nothing by default.

        class StopWhenGood(ic.Callback):
            def on_epoch(self, run, record):
                if record["validation"]["top1"] > 0.95:
                    run.stop("95 % is enough")

        ic.train(config, "runs/x", callbacks=[StopWhenGood()])

    The console's output, the loggers, checkpoints inside an epoch, early stopping and recovery are callbacks like a
    user's. At every event they are called in this order: recovery, plateau, early stopping and evaluations inside
    epochs; the callbacks of `Config.callbacks`, then those given to `train`; loggers, console, checkpoints.

    Several processes of one run call their callbacks alike, so that a decision, such as to stop, must be the same in
    each.
    """

    every_steps: int | None = None
    """Call `on_step` only when the number of steps since the start of the run is a multiple of this; None: after every
    dispatch. A dispatch is one step; on a GPU or TPU that holds all images, up to 32 steps, but never beyond a
    multiple of this."""

    def on_start(self, run: Run) -> None:
        """Called once, before the first step, when a checkpoint has been restored and the step has been compiled."""

    def on_step(self, run: Run) -> None:
        """Called after a dispatch, as soon as it is on its way to the device.

        `run.progress` says how far the run is, and `run.state` is the newest state, of arrays that may still be in
        computation: to read one makes the device wait for the host. The next step overwrites them, so that arrays to
        be kept need to be copied. To read the training metrics, use `on_metrics`.
        """

    def on_metrics(self, run: Run, metrics: StepMetrics) -> None:
        """Called once per dispatch, in order, when its figures can be read without making the device wait.

        On a GPU or TPU this is two dispatches after `on_step`; at the end of an epoch, and before an evaluation or a
        checkpoint, none is left over.
        """

    def on_evaluation(self, run: Run, record: EvaluationRecord) -> None:
        """Called after an evaluation inside an epoch (`Config.evaluate_every_steps`, `Evaluator.every_steps`)."""

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        """Called at the end of an epoch, after its evaluation and before its checkpoint.

        `run.log(name=value)` adds figures to the record, which go to metrics.jsonl and every logger.
        """

    def on_checkpoint(self, run: Run) -> None:
        """Called when a checkpoint has been handed over to be written in the background."""

    def on_rewind(self, run: Run) -> None:
        """Called when the run has gone back to its newest checkpoint, after a loss that was not finite.

        `load_state_dict` has been called before, with the state of that checkpoint.
        """

    def on_message(self, run: Run, text: str) -> None:
        """Called with a sentence for the user: why the run stops, goes back, …"""

    def on_end(self, run: Run, result: Result | None) -> None:
        """Called once at the end, however the run ends, also where an `on_start` failed; `result` is None after an
        error or an interruption."""

    def learning_rate_factor(self, run: Run) -> float:
        """Return a factor on the schedule's learning rate, from the next epoch on.

        It is asked for before the first epoch, at the end of each epoch after every `on_epoch`, and after a rewind; the
        factors of all callbacks are multiplied. Derive it from `run.progress.history` or from the callback's own
        state, so that a resumed run has the same.
        """
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return what the callback must know to go on, as JSON; it is saved in every checkpoint.

        A run whose checkpoint holds such a state is only resumed with a callback of the same class.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; called before `on_start` when a run is resumed, and at a rewind."""
