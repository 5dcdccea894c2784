"""What a training step carries along, and how a model is taken apart into it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from imgcls_jax import config as c
from imgcls_jax import models, precision
from imgcls_jax.metrics import Metrics
from imgcls_jax.optim import averaging
from imgcls_jax.optim.optimizers import Optimizer

Tree = dict[str, Any]
"""Nested dicts of arrays; a leaf's path, "layer1.0.conv1.kernel", is its keys joined by dots."""


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes; a pytree, saved whole in a checkpoint."""

    step: Int[Array, ""]
    """Steps taken, skipped ones (fp16 overflow) included."""
    params: Tree
    """Parameters that train, float32."""
    frozen: Tree
    """Parameters that do not: no gradient, no optimiser state."""
    stats: Tree
    """BatchNorm's running means and variances, float32."""
    opt_state: Any
    loss_scale: precision.LossScale | None
    average: averaging.Average | None
    """Running average of params and stats (EMA or SWA), if asked for."""
    lr_factor: Float[Array, ""]
    """Factor on the schedule's learning rate; ReduceOnPlateau and `recover` lower it."""
    metrics: Metrics
    """Of the current epoch so far; in the state so that a run killed inside an epoch resumes exactly."""


@dataclass(frozen=True)
class Model:
    """A model without its numbers: the static halves of `nnx.split`, to be closed over by jitted functions.

    Merging a graph and pure dicts inside `jax.jit` costs nothing at run time, whereas `nnx.jit` would walk the module
    at every call.
    """

    train: nnx.GraphDef
    """Dropout on; BatchNorm as `Transfer.batch_norm` says."""
    evaluate: nnx.GraphDef
    """Dropout off; BatchNorm normalises by its running statistics."""
    create: Callable[[Array], tuple[Tree, Tree]]
    """Random parameters and initial statistics from a key; jitted."""


def model(build: Callable[..., nnx.Module], batch_norm: c.BatchNormMode) -> Model:
    """Take apart the module that `build(rngs=…)` makes, without computing any number yet."""
    abstract = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    train = nnx.view(
        abstract,
        raise_if_not_found=False,
        deterministic=False,
        use_running_average=batch_norm.normalise_by == "running",
        update_running=batch_norm.update_running,
    )
    evaluate = nnx.view(
        abstract, raise_if_not_found=False, deterministic=True, use_running_average=True, update_running=False
    )

    def create(key: Array) -> tuple[Tree, Tree]:
        module = build(rngs=nnx.Rngs(key))
        params, stats = nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    # It runs once: a third of LLVM's compile time, the same bits.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return Model(nnx.split(train)[0], nnx.split(evaluate)[0], jax.jit(create, compiler_options=options))


def model_of(config: c.Config, num_classes: int) -> Model:
    """The model of an experiment on data of `num_classes` classes."""
    build = functools.partial(
        models.build,
        config.model,
        num_classes=models.num_outputs(config.model, num_classes),
        channels=config.data.canvas.channels,
        image_size=config.data.image_size,
        dtype=precision.COMPUTE_DTYPE[config.precision],
    )
    return model(build, config.transfer.batch_norm)


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
    averages = config.optim.ema is not None or config.optim.swa is not None
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        stats=stats,
        opt_state=optimizer.init(trained),
        loss_scale=precision.init(config.precision),
        average=averaging.init(trained, stats) if averages else None,
        lr_factor=jnp.ones((), jnp.float32),
        metrics=Metrics.empty(),
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

    The optimiser starts afresh: Adam and its kin count steps once for all parameters, so moments that are younger than
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
