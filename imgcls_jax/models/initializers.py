"""Initializers by name, with torch's conventions for kernels of shape [*window, in, out]."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from imgcls_jax.config.model import Init

scaling = nnx.initializers.variance_scaling

KERNELS: dict[Init, nnx.Initializer] = {
    # torch's default for Linear and Conv2d, kaiming_uniform_(a=√5), is the uniform distribution on ±1/√fan_in.
    "torch": scaling(1 / 3, "fan_in", "uniform"),
    "kaiming_normal": scaling(2.0, "fan_in", "normal"),
    "kaiming_uniform": scaling(2.0, "fan_in", "uniform"),
    "xavier_normal": scaling(1.0, "fan_avg", "normal"),
    "xavier_uniform": scaling(1.0, "fan_avg", "uniform"),
    "lecun_normal": scaling(1.0, "fan_in", "truncated_normal"),
}

# torch's kaiming_normal_(mode="fan_out", nonlinearity="relu"), which the residual networks use.
kaiming_normal_fan_out = scaling(2.0, "fan_out", "normal")


def kernel_init(name: Init) -> nnx.Initializer:
    """The named initializer of a kernel: "kaiming_*" with the gain √2 of ReLU and fan-in (He et al. 2015), "xavier_*"
    with the gain 1 (Glorot & Bengio 2010), "lecun_normal" truncated at two standard deviations."""
    return KERNELS[name]


def bias_init(name: Init, fan_in: int) -> nnx.Initializer:
    """The initializer of the bias that goes with `kernel_init(name)`: uniform on ±1/√fan_in for "torch", else zero."""
    return uniform(1 / math.sqrt(fan_in)) if name == "torch" else nnx.initializers.zeros


def dirac(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """A kernel [h, w, in, out] of odd sides whose first outputs copy the inputs (torch's `dirac_`); outputs beyond the
    number of inputs start as torch's default."""
    height, width, inputs, outputs = shape
    identity = jnp.zeros(shape, dtype).at[height // 2, width // 2].set(jnp.eye(inputs, outputs, dtype=dtype))
    return jnp.where(jnp.arange(outputs) < inputs, identity, KERNELS["torch"](key, shape, dtype))


def uniform(bound: float) -> nnx.Initializer:
    """The uniform distribution on [−bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
