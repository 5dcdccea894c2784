"""Arithmetic of a run: the compute type, and dynamic loss scaling for float16."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

GROWTH_INTERVAL = 2000
"""Good steps in a row after which the scale doubles."""


class LossScale(NamedTuple):
    """torch.amp.GradScaler's state as a pytree; its defaults are kept (init 2^16, ×2 every 2000 good steps, ×0.5)."""

    scale: Float[Array, ""]
    good_steps: Int[Array, ""]
    """Finite steps since the scale last changed, int32."""
    skipped: Int[Array, ""]
    """Steps skipped because of an overflow since the start, int32."""


def init(precision: str) -> LossScale | None:
    """The loss scale at the start of a run; None where the precision needs none."""
    if precision != "fp16":
        return None
    return LossScale(jnp.float32(2.0**16), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def scale(loss: Float[Array, ""], state: LossScale | None) -> Float[Array, ""]:
    """The loss to differentiate."""
    return loss if state is None else loss * state.scale


def unscale(grads: PyTree, state: LossScale | None) -> PyTree:
    """Gradients of the loss itself, float32."""
    if state is None:
        return grads
    inverse = 1 / state.scale
    return jax.tree.map(lambda g: g.astype(jnp.float32) * inverse, grads)


def finite(grads: PyTree) -> Bool[Array, ""]:
    """Whether every element of every gradient is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)]))


def adjust(state: LossScale, finite: Bool[Array, ""]) -> LossScale:
    """The loss scale after a step: halved (but not below 1, where torch goes on) when its gradients overflowed and it
    was skipped; doubled after `GROWTH_INTERVAL` good steps in a row, unless that overflows float32."""
    good_steps = state.good_steps + 1
    doubled = state.scale * 2
    due = good_steps >= GROWTH_INTERVAL
    grown = jnp.where(due & jnp.isfinite(doubled), doubled, state.scale)
    return LossScale(
        scale=jnp.where(finite, grown, jnp.maximum(state.scale * 0.5, 1.0)),
        good_steps=jnp.where(finite & ~due, good_steps, 0),
        skipped=state.skipped + jnp.where(finite, 0, 1),
    )


def select(finite: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """`new` after a good step, `old` after an overflow; the trees are alike."""
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
