"""The callbacks that a run has besides a user's."""

from collections.abc import Sequence

import jax

from imgcls_jax.training.callbacks.adaptive_rate import AdaptiveRate
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.checkpoints import checkpoints
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.callbacks.early_stopping import EarlyStopping
from imgcls_jax.training.callbacks.evaluation import evaluations
from imgcls_jax.training.callbacks.loggers import Loggers
from imgcls_jax.training.callbacks.recovery import Recovery
from imgcls_jax.training.experiment import Experiment


def around(own: Sequence[Callback], experiment: Experiment, console: Console) -> list[Callback]:
    """Make all callbacks of a run, in the order in which they are called.

    Those that decide come before a user's, so that a user's see a loss that is known to be finite; those that write
    come after them, so that they see what a user's added.

    Args:
      own: a user's callbacks.
      experiment: the config, which says what is wanted, and the data.
      console: what shows the run.
    """
    config = experiment.config
    before: list[Callback] = [Recovery(config.recover), AdaptiveRate(config)]
    if config.early_stopping:
        before.append(EarlyStopping())
    before += evaluations(config, validation=experiment.dataset.validation is not None)
    loggers = [Loggers(config)] if jax.process_index() == 0 else []
    return [*before, *own, *loggers, console, *checkpoints(config)]
