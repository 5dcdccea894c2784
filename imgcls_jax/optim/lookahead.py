"""Lookahead: slow parameters that follow those of another optimizer."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from imgcls_jax.config import optim as config

Params: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    slow: Any
    """Slow parameters, a tree like the fast ones."""
    count: Int[Array, ""]  # type: ignore[assignment]
    """Steps so far, int32."""
    fast: Any
    """State of the wrapped optimizer, which lookahead never resets."""


def lookahead(fast: optax.GradientTransformation, settings: config.Lookahead) -> optax.GradientTransformation:
    """Wrap an optimizer in Lookahead (Zhang et al. 2019).

    Unlike in `optax.lookahead`, the parameters remain one plain tree (the fast ones), and the slow ones are part of the
    state.
    """

    def init(params: Params) -> LookaheadState:
        # Copies, so that both trees can be donated.
        return LookaheadState(jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32), fast.init(params))

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, LookaheadState]:
        updates, fast_state = fast.update(grads, state.fast, params)
        count = state.count + 1
        due = count % settings.every == 0
        slow = jax.tree.map(
            lambda s, p, u: jnp.where(due, s + settings.share * (p + u - s), s), state.slow, params, updates
        )
        updates = jax.tree.map(lambda u, s, p: jnp.where(due, s - p, u), updates, slow, params)
        return updates, LookaheadState(slow, count, fast_state)

    return optax.GradientTransformation(init, update)
