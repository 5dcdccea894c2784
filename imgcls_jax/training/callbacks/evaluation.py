"""Evaluate inside an epoch."""

from collections.abc import Sequence

from imgcls_jax import config as c
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.run import Run


class Evaluation(Callback):
    """Evaluates the newest parameters every so many steps; the end of an epoch is evaluated by the loop itself."""

    def __init__(self, every_steps: int, *, validation: bool, names: Sequence[str]):
        """
        Args:
          every_steps: steps between two evaluations, counted from the start of the run.
          validation: whether to evaluate the validation images.
          names: the named evaluators to run.
        """
        self.every_steps = every_steps
        self._validation, self._names = validation, names

    def on_step(self, run: Run) -> None:
        if not run.is_ending:
            run.evaluate_inside_epoch(self._names, validation=self._validation)


def evaluations(config: c.Config, *, validation: bool) -> list[Evaluation]:
    """Make a callback for each number of steps after which the config wants something evaluated.

    Args:
      config: the experiment.
      validation: whether there are validation images.
    """
    names: dict[int, list[str]] = {}
    for evaluator in config.evaluators:
        if evaluator.every_steps:
            names.setdefault(evaluator.every_steps, []).append(evaluator.name)
    own = config.evaluate_every_steps if validation else None
    cadences = sorted({*names, *([own] if own else [])})
    return [Evaluation(every, validation=every == own, names=names.get(every, [])) for every in cadences]
