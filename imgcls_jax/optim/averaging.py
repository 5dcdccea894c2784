"""Averages of parameters and BatchNorm statistics over the steps (EMA) or epochs (SWA), evaluated in their place."""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from imgcls_jax import config as c

Tree: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]


class Average(NamedTuple):
    """A running average of a model's state; a pytree of the training state, saved with it."""

    params: Tree
    stats: Tree
    """BatchNorm's running means and variances."""
    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates so far, int32."""


def wanted(optim: c.Optim) -> bool:
    """Tell whether a run keeps an average."""
    return optim.ema is not None or optim.swa is not None


def init(params: Tree, stats: Tree) -> Average:
    """Start an average of nothing. The arrays are copies, so that both they and the originals can be donated."""
    copies = jax.tree.map(jnp.copy, (params, stats))
    return Average(copies[0], copies[1], jnp.zeros((), jnp.int32))


def update_ema(average: Average, params: Tree, stats: Tree, decay: float) -> Average:
    """Move an exponential moving average after an optimizer step: old · d + new · (1 − d).

    d = min(decay, (1 + t) / (10 + t)), t counted from 0: short runs are averaged too (TensorFlow's
    ExponentialMovingAverage with `num_updates`). Call it only for steps that were taken (not for fp16 overflows).
    """
    t = average.count.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return _move(average, params, stats, 1 - keep)


def update_swa(average: Average, params: Tree, stats: Tree) -> Average:
    """Move an equal average at the end of an epoch, from `SWA.from_epoch` on (Izmailov et al. 2018)."""
    return _move(average, params, stats, 1 / (average.count.astype(jnp.float32) + 1))


def read(average: Average, params: Tree, stats: Tree) -> tuple[Tree, Tree]:
    """Return the parameters and statistics to evaluate: the average, or those given as long as nothing was averaged."""
    started = average.count > 0
    return jax.tree.map(
        lambda mean, raw: jnp.where(started, mean, raw), (average.params, average.stats), (params, stats)
    )


def _move(average: Average, params: Tree, stats: Tree, share: Float[Array, ""]) -> Average:
    moved = jax.tree.map(
        lambda mean, new: mean + share * (new - mean), (average.params, average.stats), (params, stats)
    )
    return Average(moved[0], moved[1], average.count + 1)
