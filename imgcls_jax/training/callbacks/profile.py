"""Record what the device and the host do in a few steps."""

import jax

from imgcls_jax.record.documents import Result
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.run import Run


class Profile(Callback):
    """Writes a trace of some steps to WORKDIR/profile, which TensorBoard's profiler and https://ui.perfetto.dev open.

    The first steps of the process are left out: they are slower than the others.
    """

    def __init__(self, steps: int = 10, *, skip: int = 3):
        """
        Args:
          steps: how many to record; on a GPU or TPU that runs several steps per dispatch, at least one dispatch.
          skip: how many to leave out at first.
        """
        self._steps, self._skip = steps, skip
        self._first = 0
        self._tracing = self._done = False

    def on_start(self, run: Run) -> None:
        self._first = run.step

    def on_step(self, run: Run) -> None:
        taken = run.step - self._first
        if self._done:
            return
        if not self._tracing and taken >= self._skip:
            jax.block_until_ready(run.state.step)
            jax.profiler.start_trace(str(run.workdir / "profile"), create_perfetto_trace=True)
            self._tracing, self._first = True, run.step
        elif self._tracing and taken >= self._steps:
            jax.block_until_ready(run.state.step)
            self._stop(run)

    def on_epoch(self, run: Run, record: object) -> None:
        if self._tracing:  # the evaluation is not what was to be recorded
            self._stop(run)

    def on_end(self, run: Run, result: Result | None) -> None:
        if self._tracing:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        jax.profiler.stop_trace()
        self._tracing, self._done = False, True
        run.tell(
            f"profile written to {run.workdir / 'profile'}: open it with `tensorboard --logdir {run.workdir}` or drop "
            f"perfetto_trace.json.gz on https://ui.perfetto.dev"
        )
