"""Contradictions among the settings of `Optim`, found before any data is read."""

from imgcls_jax.config.optim import Optim, Optimizer
from imgcls_jax.errors import UserError


def check(optim: Optim, epochs: int) -> None:
    """Raise UserError for the first combination in `optim` that cannot mean what was meant.

    Args:
      epochs: length of training.
    """
    optim.schedule.shape.check(optim.schedule, epochs=epochs)
    optim.optimizer.check(optim, "optim.optimizer")
    _check_averages(optim)
    if optim.swa is not None and optim.swa.from_epoch >= epochs:
        raise UserError(
            f"optim.swa.from_epoch is {optim.swa.from_epoch}, but the last epoch is {epochs - 1}, so nothing would be "
            "averaged: lower it or train longer"
        )


def _check_averages(optim: Optim) -> None:
    if optim.ema is not None and optim.swa is not None:
        raise UserError("optim.ema and optim.swa both replace the evaluated parameters: set one of them to None")
    kind = type(optim.optimizer)
    if kind.evaluation_params is not Optimizer.evaluation_params:
        for name in ("ema", "swa", "lookahead"):
            if getattr(optim, name) is not None:
                raise UserError(f"{kind.__name__} averages the parameters itself: set optim.{name} to None")
