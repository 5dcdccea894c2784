"""Save inside an epoch; the end of an epoch is saved by the loop itself."""

import time

from imgcls_jax import config as c
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import processes
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.run import Run

# Steps between two looks at the clock where several processes have to agree on it, for which the device waits.
_STEPS_PER_AGREEMENT = 100


class SaveEverySteps(Callback):
    """Saves every so many steps since the start of the run."""

    def __init__(self, every_steps: int):
        self.every_steps = every_steps

    def on_step(self, run: Run) -> None:
        run.save(anchor=True)


class SaveEveryMinutes(Callback):
    """Saves when the newest checkpoint is older than so many minutes."""

    def __init__(self, minutes: float):
        self._seconds, self._saved = 60 * minutes, time.monotonic()
        self.every_steps = _STEPS_PER_AGREEMENT if meshes.is_multi_process() else None

    def on_start(self, run: Run) -> None:
        self._saved = time.monotonic()

    def on_checkpoint(self, run: Run) -> None:
        self._saved = time.monotonic()

    def on_step(self, run: Run) -> None:
        if meshes.agreed(time.monotonic() - self._saved >= self._seconds):
            run.save()


class InterruptTogether(Callback):
    """Interrupts all processes of a run after the same step, once the first one of them was signaled."""

    every_steps: int | None = _STEPS_PER_AGREEMENT  # where the devices have to agree

    def __init__(self) -> None:
        self._channel = processes.joined()
        if self._channel is not None:
            self.every_steps = None

    def on_step(self, run: Run) -> None:
        if self._channel is not None:
            run.agreed_status = self._channel.stops_here()
            if run.agreed_status is not None:
                run.interrupt()
        elif meshes.agreed(run.interruption_requested):
            run.interrupt()


def checkpoints(config: c.Config) -> list[Callback]:
    """Make the callbacks that save inside an epoch, or end the run there."""
    result: list[Callback] = [InterruptTogether()] if meshes.is_multi_process() else []
    if config.save_every_steps:
        result.append(SaveEverySteps(config.save_every_steps))
    if config.save_every_minutes:
        result.append(SaveEveryMinutes(config.save_every_minutes))
    return result
