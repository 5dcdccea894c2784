"""What a training step carries along."""

from typing import Any, no_type_check

import flax
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from imgcls_jax import config as c
from imgcls_jax.evaluation import metrics
from imgcls_jax.evaluation.metrics import AnyMetrics
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import averaging
from imgcls_jax.optim.optimizers import Optimizer
from imgcls_jax.training import precision


@no_type_check  # a tree of its shapes, or of their shardings, has the same form
class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes; a pytree, saved whole in a checkpoint."""

    step: Int[Array, ""]
    """Steps taken, skipped ones (fp16 overflow) included."""
    params: Tree
    """Parameters that train, float32."""
    frozen: Tree
    """Parameters that do not: no gradient, no optimizer state."""
    stats: Tree
    """BatchNorm's running means and variances, float32."""
    opt_state: Any
    loss_scale: precision.LossScale | None
    average: averaging.Average | None
    """Running average of params and stats (EMA or SWA), if asked for."""
    lr_factor: Float[Array, ""]
    """Factor on the schedule's learning rate; ReduceOnPlateau and `recover` lower it."""
    metrics: AnyMetrics
    """Of the current epoch so far; in the state so that a run killed inside an epoch resumes exactly."""


def create(
    params: Tree,
    stats: Tree,
    trainable: dict[str, bool],
    *,
    optimizer: Optimizer,
    config: c.Config,
) -> TrainState:
    """The state before the first step. `trainable` tells for each parameter's path whether it trains."""
    trained, frozen = partition(params, trainable)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        stats=stats,
        opt_state=optimizer.init(trained),
        loss_scale=precision.init(config.precision),
        average=averaging.init(trained, stats) if averaging.wanted(config.optim) else None,
        lr_factor=jnp.ones((), jnp.float32),
        metrics=metrics.empty(config.loss.task),
    )


def partition(params: Tree, trainable: dict[str, bool]) -> tuple[Tree, Tree]:
    """`params` as (those that train, those that do not)."""
    flat = flatten_dict(params)
    trained = {path: leaf for path, leaf in flat.items() if trainable[path_name(path)]}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trained}
    return unflatten_dict(trained), unflatten_dict(frozen)


def join(params: Tree, frozen: Tree) -> Tree:
    """The inverse of `partition`."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(frozen))


def repartition(state: TrainState, trainable: dict[str, bool], optimizer: Optimizer) -> TrainState:
    """The state with another set of trained parameters, at an epoch where layers thaw.

    The optimizer starts afresh: Adam and its kin count steps once for all parameters, so moments that are younger than
    that count would be corrected for the wrong bias, and the first steps of thawed layers be three times too long.
    """
    trained, frozen = partition(join(state.params, state.frozen), trainable)
    average = state.average
    if average is not None:
        average = average._replace(params=_carry_over(average.params, trained))
    return state.replace(
        params=trained,
        frozen=frozen,
        opt_state=optimizer.init(trained),
        average=average,
    )


def _carry_over(old: Any, new: Any) -> Any:
    """`new` with every leaf that `old` has at the same path taken from there."""
    known = dict(jax.tree.leaves_with_path(old))
    return jax.tree.map_with_path(lambda path, leaf: known.get(path, leaf), new)


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a parameter: its keys joined by dots."""
    return ".".join(map(str, path))
