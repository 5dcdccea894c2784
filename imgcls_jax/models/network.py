"""A model taken apart into a static graph and its parameters, so that pure functions can be jitted over it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from imgcls_jax import config as c
from imgcls_jax.errors import UserError

Tree = dict[str, Any]
"""Nested dicts of arrays; the path of a leaf, "layer1.0.conv1.kernel", is its keys joined by dots."""

COMPUTE_DTYPE = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16}
"""Type of activations and their gradients by `Config.precision`. Parameters, statistics, logits, loss and metrics are
float32 under each."""


Forward = Callable[..., Array]
"""(model, input, rngs=None) → logits, in float32 or the precision of the run."""


def whole(model: nnx.Module, images: Array, rngs: nnx.Rngs | None = None) -> Array:
    """Compute logits from normalized images."""
    return model(images, rngs=rngs)  # type: ignore[operator]


def head(model: nnx.Module, features: Array, rngs: nnx.Rngs | None = None) -> Array:
    """Compute logits from the input of the model's head."""
    return model.head(features, rngs=rngs)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Network:
    """A model without its parameters: the static halves of `nnx.split`, to be closed over by jitted functions.

    Merging a graph and pure dicts inside `jax.jit` costs nothing at run time, whereas `nnx.jit` would walk the module
    at every call.
    """

    train: nnx.GraphDef
    """Dropout on; BatchNorm as `Transfer.batch_norm` says."""
    evaluate: nnx.GraphDef
    """Dropout off; BatchNorm normalizes by its running statistics."""
    create: Callable[[Array], tuple[Tree, Tree]]
    """Random parameters and initial statistics from a key; compiled."""


def split(build: Callable[..., nnx.Module], batch_norm: c.BatchNormMode, batch_groups: int | None = None) -> Network:
    """Take apart the module that `build(rngs=…)` makes, without computing any number yet.

    Args:
      build: makes the module.
      batch_norm: what BatchNorm layers do in training.
      batch_groups: parts of a batch that they normalize each by itself; None: the batch as a whole.

    Raises:
      UserError: there is no layer that can do so.
    """
    abstract = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    train = nnx.view(
        abstract,
        raise_if_not_found=False,
        deterministic=False,
        use_running_average=batch_norm.normalize_by == "running",
        update_running=batch_norm.update_running,
    )
    if batch_groups is not None:
        try:
            train = nnx.view(train, batch_groups=batch_groups)
        except ValueError:  # flax found no module that takes it
            raise UserError(
                "bn_group is set, and the network has no BatchNorm (imgcls_jax.models.layers.BatchNorm): leave it out"
            ) from None
    evaluate = nnx.view(
        abstract, raise_if_not_found=False, deterministic=True, use_running_average=True, update_running=False
    )

    def build_variables(key: Array) -> tuple[Tree, Tree]:
        module = build(rngs=nnx.Rngs(key))
        params, stats = nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    anywhere = jax.jit(build_variables)
    # It runs once: a third of LLVM's compile time, same bits.
    on_cpu = jax.jit(build_variables, compiler_options={"xla_backend_optimization_level": 1})

    def create(key: Array) -> tuple[Tree, Tree]:
        """Run where the key lies, whatever the step is compiled for; traced, it runs nowhere."""
        traced = isinstance(key, jax.core.Tracer)
        return (anywhere if traced or {device.platform for device in key.devices()} != {"cpu"} else on_cpu)(key)

    return Network(nnx.split(train)[0], nnx.split(evaluate)[0], create)


def of_config(config: c.Config, num_classes: int, batch_groups: int = 1) -> Network:
    """The model of an experiment on data of `num_classes` classes; `batch_groups` counts for its training alone, and
    where `config.bn_group` is set."""
    build = functools.partial(
        config.model.build,
        num_classes=config.model.output_classes(num_classes),
        channels=config.data.canvas.channels,
        image_size=config.data.image_size,
        dtype=COMPUTE_DTYPE[config.precision],
    )
    return split(build, config.transfer.batch_norm, None if config.bn_group is None else batch_groups)
