"""The pure functions of a training step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from imgcls_jax.models import network
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import averaging, sam
from imgcls_jax.optim.losses import Loss
from imgcls_jax.optim.optimizers import Optimizer
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.training import precision
from imgcls_jax.training.state import TrainState, join
from imgcls_jax.xla.conv import CONVOLUTION

Batch = dict[str, Array]
"""{"image": uint8 [b, h, w, c], "label": int32 [b] (or [b, k], see `augment.targets`), "aspect": float32 [b],
"index": int32 [b]}."""
Augment = Callable[..., tuple[Float[Array, "b h w c"], Float[Array, "b k"]]]


class Diagnostics(NamedTuple):
    """Norms of one step; Euclidean, over all trained parameters."""

    gradient_norm: Float[Array, ""]
    """Of the mean gradient, before clipping; under fp16 of the unscaled one, which may be infinite."""
    parameter_norm: Float[Array, ""]
    """Before the step."""
    update_norm: Float[Array, ""]
    """Of the change by the step."""


TrainStep = Callable[[TrainState, Batch], TrainState]
Diagnose = Callable[[TrainState, Batch], Diagnostics]


def build_steps(
    graph: nnx.GraphDef,
    *,
    augment: Augment,
    forward: network.Forward = network.whole,
    loss: Loss,
    optimizer: Optimizer,
    schedule: LearningRate,
    key: Array,
    steps_per_epoch: int,
    accumulate: int = 1,
    sam_radius: float = 0.0,
    ema_decay: float | None = None,
    remat: bool = False,
    platform: str = "cpu",
) -> tuple[TrainStep, Diagnose]:
    """Build two functions of (state, batch), to be jitted for devices of a `platform`: one returns the state after the
    step, and can be given the state as a donation; the other one returns the step's norms, and leaves the state alone.

    One step: augment and mix the whole batch; `forward` and backward in `accumulate` equal parts whose gradients are
    averaged; unscale (fp16); clip and update; move the average. All randomness comes from `key` and `state.step`.
    A step whose fp16 gradients overflow changes nothing but the loss scale and the step count.

    The norms are computed in a program of their own, which takes the step a second time: within the step, another use
    of the gradients would change how XLA fuses and so rounds, and the parameters would depend on whether they are
    watched.
    """
    # XLA's CPU backend runs the backward pass of a convolution in a loop 10 to 100 times slower than outside one.
    in_a_loop = accumulate > 1 and platform != "cpu"

    def gradients(params: Tree, state: TrainState, images: Array, labels: Array, dropout_key: Array) -> Any:
        """Mean gradient over all parts; the statistics after them; the metrics."""

        def loss_of(params: Tree, stats: Tree, images: Array, labels: Array, key: Array) -> Any:
            model = nnx.merge(graph, params, state.frozen, stats)
            logits = forward(model, images, rngs=nnx.Rngs(key)).astype(jnp.float32)
            losses = loss(logits, labels)
            new_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            metrics = state.metrics.of_batch(losses, logits, labels)
            return precision.scale(losses.mean(), state.loss_scale), (new_stats, metrics)

        if remat:
            loss_of = jax.checkpoint(loss_of, policy=_is_product)

        def part(carry: Any, inputs: Any) -> tuple[Any, None]:
            total, stats, metrics = carry
            grads, (stats, new) = jax.grad(loss_of, has_aux=True)(params, stats, *inputs)
            grads = precision.unscale(grads, state.loss_scale)
            # Nothing lies between a part's gradients and their sum, so that GPUs sum over devices once for all parts.
            return (jax.tree.map(jnp.add, total, grads), stats, metrics.merge(new)), None

        def parts(x: Array) -> Array:
            # Every part takes rows from every device's share of the batch.
            return rearrange(x, "(b parts) ... -> parts b ...", parts=accumulate)

        carry = (jax.tree.map(jnp.zeros_like, params), state.stats, state.metrics.empty())
        inputs = (parts(images), parts(labels), jax.random.split(dropout_key, accumulate))
        if in_a_loop:
            carry, _ = jax.lax.scan(part, carry, inputs)
        else:
            for i in range(accumulate):
                carry, _ = part(carry, jax.tree.map(lambda x, i=i: x[i], inputs))
        total, stats, metrics = carry
        return jax.tree.map(lambda g: g / accumulate, total), stats, metrics

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Tree]:
        """The state after a step, and the gradient of it."""
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        images, labels = augment(
            augment_key,
            batch["image"],
            batch["label"],
            batch["aspect"],
            state.step // steps_per_epoch,
            batch["index"],
        )
        grads, stats, metrics = gradients(state.params, state, images, labels, dropout_key)
        if sam_radius:
            worst = sam.perturb(state.params, grads, sam_radius)
            grads, _, _ = gradients(worst, state, images, labels, dropout_key)
        params, opt_state = optimizer.update(
            grads, state.opt_state, state.params, learning_rate=schedule(state.step) * state.lr_factor
        )
        average = state.average
        if ema_decay is not None and average is not None:
            average = averaging.update_ema(average, params, stats, ema_decay)
        new = state.replace(
            params=params, stats=stats, opt_state=opt_state, average=average, metrics=state.metrics.merge(metrics)
        )
        if state.loss_scale is not None:
            finite = precision.finite(grads)
            new = precision.select(finite, new, state).replace(loss_scale=precision.adjust(state.loss_scale, finite))
        return new.replace(step=state.step + 1), grads

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        return step(state, batch)[0]

    def diagnose(state: TrainState, batch: Batch) -> Diagnostics:
        new, grads = step(state, batch)
        update = jax.tree.map(jnp.subtract, new.params, state.params)
        return Diagnostics(*map(optax.tree.norm, (grads, state.params, update)))

    return train_step, diagnose


def _is_product(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """What rematerialisation keeps: all else costs little arithmetic."""
    if primitive.name == "name":
        return parameters["name"] == CONVOLUTION
    return primitive.name in ("conv_general_dilated", "dot_general")


def build_evaluation_variables(
    optimizer: Optimizer,
) -> Callable[[TrainState], tuple[Tree, Tree]]:
    """A function state → (all parameters, statistics) to evaluate: averaged ones where the run keeps averages."""

    def evaluation_variables(state: TrainState) -> tuple[Tree, Tree]:
        params, stats = optimizer.evaluation_params(state.params, state.opt_state), state.stats
        if state.average is not None:
            params, stats = averaging.read(state.average, params, stats)
        return join(params, state.frozen), stats

    return evaluation_variables
