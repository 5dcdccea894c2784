"""Schedule-free AdamW."""

from typing import Annotated, Any

import optax
from pydantic import Field

from imgcls_jax.config.optim import Fraction, NonNegative, Optim, Optimizer, Positive
from imgcls_jax.errors import UserError
from imgcls_jax.optim.links import Scalar, add_decay, descend
from imgcls_jax.optim.schedules import Constant


class ScheduleFreeAdamW(Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024); evaluated at its averaged parameters. Takes a constant schedule, with
    or without warm-up. BatchNorm's running statistics are those of the parameters nearby that train, which can cost
    accuracy."""

    b1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the average in the point at which gradients are taken."""
    b2: Fraction = 0.999
    """Decay of the squared gradient's average."""
    eps: Positive = 1e-8
    """Added to the root of the squared gradient's average."""
    weight_decay: NonNegative = 0.0
    """Weight decay; each step subtracts its product with the learning rate and the parameter."""

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        # Adam without its first moment: schedule-free's interpolation takes its place.
        scale = optax.scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True)
        step = optax.chain(scale, add_decay(decay), descend(learning_rate, rates))
        return optax.contrib.schedule_free(step, learning_rate, self.b1)

    def evaluation_params(self, state: Any, params: Any) -> Any:
        return optax.contrib.schedule_free_eval_params(state, params)

    def check(self, optim: Optim, where: str) -> None:
        if not isinstance(optim.schedule.shape, Constant):
            raise UserError(
                f"{where} = ScheduleFreeAdamW replaces the schedule, but optim.schedule.shape is "
                f"{type(optim.schedule.shape).__name__}: set it to Constant(), with warm-up if you like"
            )
