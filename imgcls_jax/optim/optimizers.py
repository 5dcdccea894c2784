"""The chain around an optimizer, in one order: clip → optimizer with weight decay and learning rate → lookahead."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from imgcls_jax.config import optim as config
from imgcls_jax.errors import UserError
from imgcls_jax.optim.links import Scalar, is_zero
from imgcls_jax.optim.lookahead import lookahead

Params: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A chain whose learning rate is an argument of every update, so that schedules, plateaus and tuning need no
    state inside it and never recompile it."""

    chain: Callable[..., optax.GradientTransformation]
    """The optax chain at a learning rate, and at a `decay` in place of the one below, if given. Building it anew while
    `update` is traced costs nothing at run time."""
    read: Callable[[Params, Any], Params]
    """The parameters to evaluate, from those that train and the state."""
    decay: PyTree
    """Weight decay of each parameter, a tree like them; 0 where there is none."""

    @property
    def decayed(self) -> dict[str, bool]:
        """Whether weight decay shrinks a parameter, by path; all False when there is none."""
        leaves = jax.tree.leaves_with_path(self.decay)
        return {".".join(str(key.key) for key in path): value > 0 for path, value in leaves}

    def init(self, params: Params) -> Any:
        """Return the state before the first step, for parameters as nested dicts."""
        return self.chain(0.0).init(params)

    def update(self, grads: Params, state: Any, params: Params, *, learning_rate: Scalar) -> tuple[Params, Any]:
        """Take one step and return the new parameters and state.

        Args:
          grads: accumulated, unscaled float32 gradients.
          learning_rate: float32 scalar, traced.
        """
        updates, state = self.chain(learning_rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def evaluation_params(self, params: Params, state: Any) -> Params:
        """Return the parameters to evaluate: schedule-free's average, lookahead's slow parameters, else `params`.

        BatchNorm's running statistics belong to `params`; an average would want them estimated anew.
        """
        return self.read(params, state)


def build(
    optim: config.Optim,
    params: Any,
    *,
    lr_scale: PyTree[float] | None = None,
    wd_scale: PyTree[float] | None = None,
) -> Optimizer:
    """Build the optimizer of `optim` for parameters like `params`.

    Args:
      params: nested dicts of arrays, or of their shapes; only those that train.
      lr_scale: factors on the learning rate, a tree like `params` of Python floats; None: 1 everywhere.
      wd_scale: factors on the weight decay, likewise. Norms and biases have none unless
        `optim.decay_norm_and_bias`.

    Raises:
      UserError: an optimizer of the user's cannot be built or scaled.
    """
    optimizer = optim.optimizer
    rates = jax.tree.map(lambda _: 1.0, params) if lr_scale is None else lr_scale
    shares = jax.tree.map(lambda _: 1.0, params) if wd_scale is None else wd_scale
    parts, part_of = optimizer.split(params)
    rates = jax.tree.map(lambda rate, part: rate * parts[part].learning_rate_scale, rates, part_of)
    weights = {name: getattr(part.optimizer, "weight_decay", 0.0) for name, part in parts.items()}
    decay = jax.tree.map_with_path(
        lambda path, p, part, share: _decays(path, p, optim) * weights[part] * share, params, part_of, shares
    )
    if not all(hasattr(part.optimizer, "weight_decay") for part in parts.values()):
        _refuse_idle(optimizer, shares)

    def chain(learning_rate: Scalar, decay: PyTree = decay) -> optax.GradientTransformation:
        links = {
            name: _chain(part.optimizer, learning_rate, _only(name, rates, part_of), _only(name, decay, part_of))
            for name, part in parts.items()
        }
        core = links["main"] if len(links) == 1 else optax.partition(links, part_of)
        if optim.lookahead is not None:
            core = lookahead(core, optim.lookahead)
        return optax.chain(_clip(optim.clip), core)

    def read(params: Params, state: Any) -> Params:
        return state[1].slow if optim.lookahead is not None else optimizer.evaluation_params(state[1], params)

    return Optimizer(chain, read, decay)


def _decays(path: tuple[Any, ...], p: Any, optim: config.Optim) -> bool:
    return optim.decay_norm_and_bias or (p.ndim > 1 and path[-1].key not in ("bias", "scale"))


def _only(name: str, tree: PyTree, part_of: PyTree[str]) -> PyTree:
    """`tree` as `optax.partition` shows the part of that name its gradients: without the leaves of other parts."""
    return jax.tree.map(lambda leaf, part: leaf if part == name else optax.MaskedNode(), tree, part_of)


# ---- optimizers that only build themselves --------------------------------------------------------------------------


def _chain(
    optimizer: config.Optimizer, learning_rate: Scalar, rates: PyTree, decay: PyTree
) -> optax.GradientTransformation:
    """The optimizer with the learning rate and weight decay of each parameter."""
    chain = optimizer.chain(learning_rate, rates=rates, decay=decay)
    return _scaled(optimizer, learning_rate, rates, decay) if chain is None else chain


def _scaled(
    optimizer: config.Optimizer, learning_rate: Scalar, rates: PyTree, decay: PyTree
) -> optax.GradientTransformation:
    """The optimizer that `build` makes, its steps scaled and decayed as `config.Optimizer` describes."""
    name = type(optimizer).__name__
    uneven = any(rate != 1 for rate in jax.tree.leaves(rates)) or not all(map(is_zero, jax.tree.leaves(decay)))
    if uneven and type(optimizer).evaluation_params is not config.Optimizer.evaluation_params:
        raise UserError(
            f"optim.optimizer = {name} keeps averages of the parameters, which do not follow when steps are changed "
            f"by weight decay or by learning-rate factors of groups and layers: define {name}.chain in place of build"
        )
    own = _own(name, "build", optimizer.build, learning_rate)
    if not isinstance(own, optax.GradientTransformation):
        raise UserError(f"{name}.build must return an optax.GradientTransformation, not {type(own).__name__}")

    def init(params: Params) -> Any:
        state = _own(name, "build(…).init", own.init, params)
        if any(hasattr(node, "hyperparams") for node in jax.tree.leaves(state, is_leaf=_injects)):
            raise UserError(
                f"{name}.build uses optax.inject_hyperparams, which would keep the first learning rate for ever: "
                "build the optimizer without it, since the rate is given anew at every step"
            )
        return state

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        steps, state = _own(name, "build(…).update", own.update, grads, state, params)

        def finish(step: Array, p: Array, rate: float, d: Scalar) -> Array:
            step = rate * step if rate != 1 else step
            return step if is_zero(d) else step - (learning_rate * rate) * d * p

        return jax.tree.map(finish, steps, params, rates, decay), state

    return optax.GradientTransformation(init, update)


def _injects(node: Any) -> bool:
    return hasattr(node, "hyperparams")


def _own(name: str, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's function; whatever goes wrong in it is one sentence."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"the optimizer of {name} fails in {part}: {reason}") from error


def _refuse_idle(optimizer: config.Optimizer, shares: PyTree[float]) -> None:
    if any(share != 1 for share in jax.tree.leaves(shares)):
        name = type(optimizer).__name__
        raise UserError(
            f"transfer.groups has a weight_decay_scale, but optim.optimizer = {name} has no setting weight_decay: "
            f"remove the scale, or declare `weight_decay: float` in {name}"
        )


# ---- clipping -------------------------------------------------------------------------------------------------------


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
    """Clip as torch's clip_grad_norm_ does: factor min(1, limit / (norm + 1e-6)). optax's own has no 1e-6."""
    factor = jnp.minimum(1.0, limit / (optax.tree.norm(grads) + 1e-6))
    return jax.tree.map(lambda g: g * factor, grads)
