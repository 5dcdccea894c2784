"""Tell whether everything that a step leaves behind is finite, without waiting; and the error if it is not."""

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import Result
from imgcls_jax.training.state import TrainState
from imgcls_jax.xla.outline import outlined


def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Tell whether the trained parameters, the statistics and the optimizer's state hold finite numbers only.

    Under fp16 parameters also have to be finite as float16, in which the model computes. Nothing is fused with what
    computed the state: that could change its rounding.
    """

    def check(params: Any, *others: Any) -> Bool[Array, ""]:
        if state.loss_scale is not None:
            params = jax.tree.map(lambda x: x.astype(jnp.float16), params)
        floats = [x for x in jax.tree.leaves((params, others)) if jnp.issubdtype(x.dtype, jnp.floating)]
        return functools.reduce(operator.and_, (jnp.isfinite(x).all() for x in floats), jnp.array(True))

    def behind_barrier(*trees: Any) -> Bool[Array, ""]:
        return check(*jax.lax.optimization_barrier(trees))

    trees = state.params, state.stats, state.opt_state
    return jax.lax.platform_dependent(*trees, cpu=outlined(check), default=behind_barrier)


class NotFinite(UserError):
    """The loss or the state of a run is not finite, and the run does not recover."""

    def __init__(self, fact: str, newest: int | None):
        """
        Args:
          fact: what is not finite, and where.
          newest: step of the newest checkpoint, which is finite; None: there is none.
        """
        kept = (
            "no checkpoint was made yet"
            if newest is None
            else f"the checkpoint of step {newest}, a finite one, is kept"
        )
        super().__init__(
            f"{fact}: lower optim.schedule.peak, lengthen its warm-up or set optim.clip; or set recover, which returns "
            f"to the last good checkpoint and continues at a lower rate; {kept}"
        )


def check_result(result: Result) -> None:
    """Raise NotFinite where the final figures are not finite, so that no caller takes them for a success."""
    for name, figures in {"test": result["test"], **result["evaluators"]}.items():
        if figures is not None and not math.isfinite(figures["loss"]):
            raise NotFinite(f"the {name} loss of the best epoch is NaN or infinite", result["history"][-1]["step"])
