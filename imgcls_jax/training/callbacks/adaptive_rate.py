"""Adapt the learning rate to what the epochs so far have come to."""

from imgcls_jax import config as c
from imgcls_jax.evaluation import metrics
from imgcls_jax.optim import schedules
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.run import Run


class AdaptiveRate(Callback):
    """Asks the schedule's shape for a factor on its rates (`Shape.adapt`), as ReduceOnPlateau gives one.

    It is replayed from the history each time, so that it needs no state of its own.
    """

    def __init__(self, config: c.Config):
        self._schedule = schedules.fit(config.optim.schedule, config.epochs)
        self._directions = metrics.directions(config.metrics)

    def learning_rate_factor(self, run: Run) -> float:
        history = run.progress.history
        return self._schedule.shape.adapt(history, schedule=self._schedule, higher_is_better=self._directions)
