"""Averages of parameters and BatchNorm statistics over the steps (EMA) or epochs (SWA), evaluated in their place."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

Tree = PyTree[Float[Array, "..."]]


class Average(NamedTuple):
    """A running average of a model's state; a pytree of the training state, saved with it."""

    params: Tree
    stats: Tree
    """BatchNorm's running means and variances."""
    count: Int[Array, ""]
    """Updates so far, int32."""


def init(params: Tree, stats: Tree) -> Average:
    """An average of nothing yet. The arrays are copies, so that both they and the originals can be donated."""
    copy = jax.tree.map(jnp.copy, (params, stats))
    return Average(*copy, jnp.zeros((), jnp.int32))


def update_ema(average: Average, params: Tree, stats: Tree, decay: float) -> Average:
    """Exponential moving average, after an optimiser step: old · d + new · (1 − d).

    d = min(decay, (1 + t) / (10 + t)), t counted from 0: short runs are averaged too (TensorFlow's
    ExponentialMovingAverage with `num_updates`). Call it only for steps that were taken (not for fp16 overflows).
    """
    t = average.count.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return _move(average, params, stats, 1 - keep)


def update_swa(average: Average, params: Tree, stats: Tree) -> Average:
    """Equal average, at the end of an epoch from `SWA.from_epoch` on (Izmailov et al. 2018)."""
    return _move(average, params, stats, 1 / (average.count.astype(jnp.float32) + 1))


def read(average: Average, params: Tree, stats: Tree) -> tuple[Tree, Tree]:
    """Parameters and statistics to evaluate: the average, or those given as long as nothing was averaged."""
    started = average.count > 0
    return jax.tree.map(
        lambda mean, raw: jnp.where(started, mean, raw), (average.params, average.stats), (params, stats)
    )


def _move(average: Average, params: Tree, stats: Tree, share: Float[Array, ""]) -> Average:
    moved = jax.tree.map(
        lambda mean, new: mean + share * (new - mean), (average.params, average.stats), (params, stats)
    )
    return Average(*moved, average.count + 1)
