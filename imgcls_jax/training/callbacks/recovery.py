"""Stop a run that is no longer finite, or send it back to a good checkpoint at a lower learning rate."""

import math
from collections.abc import Mapping

import jax

from imgcls_jax import config as c
from imgcls_jax.record.documents import EpochRecord, EvaluationRecord, Figures
from imgcls_jax.training import flight_record
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.finite import NotFinite
from imgcls_jax.training.progress import StepMetrics
from imgcls_jax.training.run import Rewind, Run


class Recovery(Callback):
    """Checks that loss, state and evaluations are finite, and recovers as `Config.recover` says; without it the run
    ends. It comes first, so that nothing else sees, records or saves what is not finite."""

    def __init__(self, recover: c.Recover | None):
        self._recover, self._problem = recover, ""

    def on_metrics(self, run: Run, metrics: StepMetrics) -> None:
        self._react(run, not_finite(metrics, run.last_step_in_epoch))

    def on_evaluation(self, run: Run, record: EvaluationRecord) -> None:
        self._react(run, not_finite_evaluation(record, run.progress.step_in_epoch))

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        self._react(run, not_finite_evaluation(record, run.progress.step_in_epoch))

    def on_rewind(self, run: Run) -> None:
        assert self._recover
        progress = run.progress
        run.tell(
            f"{self._problem}; going back to epoch {progress.epoch + 1}, step {progress.step_in_epoch + 1} with the "
            f"learning rate times {self._recover.factor:g} (time {progress.recoveries} of {self._recover.times})"
        )

    def learning_rate_factor(self, run: Run) -> float:
        return self._recover.factor**run.progress.recoveries if self._recover else 1.0

    def _react(self, run: Run, problem: str | None) -> None:
        if problem is None:
            return
        if self._recover is None or run.progress.recoveries == self._recover.times:
            run.checkpoints.wait()
            raise NotFinite(problem + flight_record.explain(run), run.checkpoints.latest())
        self._problem = problem
        raise Rewind(problem)


def not_finite(metrics: StepMetrics, last_step: int) -> str | None:
    """Say what is not finite after a dispatch, the loss of the epoch so far or the state; None where both are finite.

    Under fp16 an overflow only skips its step; there, an epoch without a single good step is the error.

    Args:
      metrics: of the dispatch.
      last_step: the step with which the epoch ends.
    """
    loss = metrics.metrics.loss
    total, count, finite = jax.device_get((loss.total, loss.count, metrics.finite))
    if not math.isfinite(total):
        what = "the loss is NaN or infinite"
    elif count == 0 and metrics.step_in_epoch >= last_step:
        what = "the loss is infinite in every step"
    elif not finite:
        what = "parameters, statistics or the optimizer's state are NaN or infinite"
    else:
        return None
    return (
        f"{what} in epoch {metrics.epoch + 1} by step {metrics.step_in_epoch}, "
        f"at learning rate {metrics.learning_rate:.3g}"
    )


def not_finite_evaluation(record: EpochRecord | EvaluationRecord, step: int) -> str | None:
    """Say which loss of an evaluation is not finite, `step` being the epoch's newest step; None where all are."""
    evaluations: Mapping[str, Figures | None] = {"validation": record["validation"], **record["evaluators"]}
    for name, figures in evaluations.items():
        if figures is not None and not math.isfinite(figures["loss"]):
            return f"the {name} loss is NaN or infinite in epoch {record['epoch'] + 1} after step {step}"
    return None
