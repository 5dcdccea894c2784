"""Optimisers: optax chains in one order, clip → optimiser with its weight decay → learning rate → lookahead."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from imgcls_jax.config import optim as config

Params = PyTree[Float[Array, "..."]]
Scalar = Float[Array, ""] | float


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A chain whose learning rate is an argument of every update, so that schedules, plateaus and tuning need no
    state inside it and never recompile it."""

    chain: Callable[[Scalar], optax.GradientTransformation]
    """The optax chain at a learning rate. Building it anew while `update` is traced costs nothing at run time."""
    read: Callable[[Params, optax.OptState], Params]
    decayed: dict[str, bool]
    """Whether weight decay shrinks a parameter, by path; all False when there is none."""

    def init(self, params: Params) -> optax.OptState:
        """The state before the first step, for parameters as nested dicts."""
        return self.chain(0.0).init(params)

    def update(
        self, grads: Params, state: optax.OptState, params: Params, *, learning_rate: Scalar
    ) -> tuple[Params, optax.OptState]:
        """One step: the new parameters and state.

        `grads` are the accumulated, unscaled float32 gradients; `learning_rate` is a traced float32 scalar.
        """
        updates, state = self.chain(learning_rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def evaluation_params(self, params: Params, state: optax.OptState) -> Params:
        """The parameters to evaluate: schedule-free's average, lookahead's slow parameters, else `params`.

        BatchNorm's running statistics belong to `params`; schedule-free's average wants them estimated anew.
        """
        return self.read(params, state)


def build(
    optim: config.Optim,
    params: Params,
    *,
    lr_scale: PyTree[float] | None = None,
    wd_scale: PyTree[float] | None = None,
) -> Optimizer:
    """The optimiser of `optim` for parameters like `params` (nested dicts of arrays or shapes; only trainable ones).

    Args:
      lr_scale: factors on the learning rate, a tree like `params` of Python floats; None: 1 everywhere.
      wd_scale: factors on the weight decay, likewise. Norms and biases have none unless
        `optim.decay_norm_and_bias`.
    """
    optimizer = optim.optimizer
    rates = jax.tree.map(lambda _: 1.0, params) if lr_scale is None else lr_scale
    shares = jax.tree.map(lambda _: 1.0, params) if wd_scale is None else wd_scale
    # Muon shares the parameters with another optimiser; any other one has them to itself.
    parts: dict[str, config.Optimizer] = {"main": optimizer}
    part_of = jax.tree.map(lambda _: "main", params)
    if isinstance(optimizer, config.Muon):
        parts["rest"] = optimizer.rest
        part_of = jax.tree.map_with_path(lambda path, p: "main" if _orthogonal(optimizer, path, p) else "rest", params)
        rates = jax.tree.map(
            lambda rate, part: rate * (1 if part == "main" else optimizer.rest_learning_rate_scale), rates, part_of
        )
    decay = jax.tree.map_with_path(
        lambda path, p, part, share: _decays(path, p, optim) * parts[part].weight_decay * share, params, part_of, shares
    )

    def chain(learning_rate: Scalar) -> optax.GradientTransformation:
        links = {
            name: optax.chain(*_core(part, _only(name, decay, part_of), _only(name, rates, part_of), learning_rate))
            for name, part in parts.items()
        }
        core = links["main"] if len(links) == 1 else optax.partition(links, part_of)
        if isinstance(optimizer, config.ScheduleFreeAdamW):
            core = optax.contrib.schedule_free(core, learning_rate, optimizer.b1)
        if optim.lookahead is not None:
            core = lookahead(core, optim.lookahead)
        return optax.chain(_clip(optim.clip), core)

    def read(params: Params, state: optax.OptState) -> Params:
        if isinstance(optimizer, config.ScheduleFreeAdamW):
            return optax.contrib.schedule_free_eval_params(state[1], params)
        return state[1].slow if optim.lookahead is not None else params

    decayed = {".".join(str(key.key) for key in path): value > 0 for path, value in jax.tree.leaves_with_path(decay)}
    return Optimizer(chain, read, decayed)


def _core(
    optimizer: config.Optimizer, decay: PyTree[float], rates: PyTree[float], learning_rate: Scalar
) -> list[optax.GradientTransformation]:
    """The optimiser's links. "Coupled" weight decay is added to the gradient; "decoupled", to the step."""
    add_decay = _add_decay(decay)
    descend = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u, rate: -(learning_rate * rate) * u, updates, rates)
    )
    match optimizer:
        case config.SGD():
            momentum = [optax.trace(optimizer.momentum, optimizer.nesterov)] if optimizer.momentum else []
            return [add_decay, *momentum, descend]
        case config.Adam():
            return [add_decay, optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps), descend]
        case config.AdamW():
            return [optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps), add_decay, descend]
        case config.RMSprop(variant="torch"):
            momentum = [optax.trace(optimizer.momentum)] if optimizer.momentum else []
            return [add_decay, optax.scale_by_rms(optimizer.decay, optimizer.eps, eps_in_sqrt=False), *momentum,
                    descend]  # fmt: skip
        case config.RMSprop(variant="keras"):
            # Keras's momentum sums whole steps, learning rates included, and its weight decay stays outside.
            momentum = [optax.trace(optimizer.momentum)] if optimizer.momentum else []
            shrink = optax.stateless(
                lambda updates, params: jax.tree.map(
                    lambda u, p, d, rate: u - (learning_rate * rate) * d * p if d else u, updates, params, decay, rates
                )
            )
            return [optax.scale_by_rms(optimizer.decay, optimizer.eps), descend, *momentum, shrink]
        case config.Lion():
            return [optax.scale_by_lion(optimizer.b1, optimizer.b2), add_decay, descend]
        case config.LAMB():
            return [optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps), add_decay,
                    optax.scale_by_trust_ratio(), descend]  # fmt: skip
        case config.Muon():
            normalise = [_normalise()] if optimizer.normalise else []
            return [_muon(optimizer), add_decay, descend, *normalise]
        case config.ScheduleFreeAdamW():
            # Adam without its first moment: schedule-free's interpolation takes its place.
            scale = optax.scale_by_rms(optimizer.b2, optimizer.eps, eps_in_sqrt=False, bias_correction=True)
            return [scale, add_decay, descend]


def _only(name: str, tree: PyTree, part_of: PyTree[str]) -> PyTree:
    """`tree` as `optax.partition` shows the part of that name its gradients: without the leaves of other parts."""
    return jax.tree.map(lambda leaf, part: leaf if part == name else optax.MaskedNode(), tree, part_of)


def _decays(path: tuple, p: jax.Array, optim: config.Optim) -> bool:
    return optim.decay_norm_and_bias or (p.ndim > 1 and path[-1].key not in ("bias", "scale"))


def _add_decay(decay: PyTree[float]) -> optax.GradientTransformation:
    """Adds each parameter times its weight decay."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda u, p, d: u + d * p if d else u, updates, params, decay)
    )


def _clip(clip: config.Clip | None) -> optax.GradientTransformation:
    if clip is None:
        return optax.identity()
    match clip.by:
        case "global_norm":
            return optax.stateless(lambda grads, _: clip_by_global_norm(grads, clip.limit))
        case "value":
            return optax.clip(clip.limit)
        case "adaptive":
            return optax.adaptive_grad_clip(clip.limit)


def clip_by_global_norm(grads: Params, limit: float) -> Params:
    """torch's clip_grad_norm_: factor min(1, limit / (norm + 1e-6)). optax's own has no 1e-6."""
    factor = jnp.minimum(1.0, limit / (optax.tree.norm(grads) + 1e-6))
    return jax.tree.map(lambda g: g * factor, grads)


def _orthogonal(optimizer: config.Muon, path: tuple, p: jax.Array) -> bool:
    """Whether Muon takes the parameter: a matrix or convolution, not ViT's tokens or position embeddings."""
    return path[-1].key == "kernel" and p.ndim > (2 if optimizer.kernels == "convolutions" else 1)


def _muon(optimizer: config.Muon) -> optax.GradientTransformation:
    """Orthogonalised momentum of kernels, before weight decay and learning rate.

    A kernel ([in, out], or HWIO) is the matrix [every axis but the last, last], as in Jordan's reference
    implementation, where it is torch's `weight.view(len(weight), -1)`; steps are scaled by √max(1, out / in) as there.
    """

    def dimensions(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda p: optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), (p.ndim - 1,)), tree)

    def scale_by_shape(u: jax.Array) -> jax.Array:
        return u * max(1.0, u.shape[-1] / (u.size / u.shape[-1])) ** 0.5

    return optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=optimizer.newton_schulz_steps, beta=optimizer.momentum, weight_dimension_numbers=dimensions
        ),
        optax.stateless(lambda updates, _: jax.tree.map(scale_by_shape, updates)),
    )


def _normalise() -> optax.GradientTransformation:
    """Steps that start from the kernel scaled to the norm √outputs, in place of the kernel itself."""

    def from_the_sphere(update: jax.Array, p: jax.Array) -> jax.Array:
        norm = jnp.maximum(jnp.linalg.norm(p), 1e-12)  # a kernel of zeros stays where it is
        return update + (p.shape[-1] ** 0.5 / norm - 1) * p

    return optax.stateless(lambda updates, params: jax.tree.map(from_the_sphere, updates, params))


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    slow: Params
    count: Int[Array, ""]
    """Steps so far, int32."""
    fast: optax.OptState
    """State of the wrapped optimiser, which lookahead never resets."""


def lookahead(fast: optax.GradientTransformation, settings: config.Lookahead) -> optax.GradientTransformation:
    """Zhang et al. 2019. Unlike `optax.lookahead`, the parameters stay one plain tree (the fast ones), and the slow
    ones are part of the state."""

    def init(params: Params) -> LookaheadState:
        # Copies, so that both trees can be donated.
        return LookaheadState(jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32), fast.init(params))

    def update(grads: Params, state: LookaheadState, params: Params) -> tuple[Params, LookaheadState]:
        updates, fast_state = fast.update(grads, state.fast, params)
        count = state.count + 1
        due = count % settings.every == 0
        slow = jax.tree.map(
            lambda s, p, u: jnp.where(due, s + settings.share * (p + u - s), s), state.slow, params, updates
        )
        updates = jax.tree.map(lambda u, s, p: jnp.where(due, s - p, u), updates, slow, params)
        return updates, LookaheadState(slow, count, fast_state)

    return optax.GradientTransformation(init, update)
