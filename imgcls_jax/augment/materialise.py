"""A fence that XLA does not fuse across, on a CPU as well."""

from typing import TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

T = TypeVar("T")


def materialise(tree: T) -> T:
    """The same arrays, computed once.

    XLA fuses what computes an array into every loop that reads it: the matrix of a rotation would be computed anew for
    each pixel, and a cropped pixel for each of the four that a rotation blends. `optimization_barrier` forbids that on
    a GPU, but XLA:CPU drops it before it fuses; there the arrays are the arguments of a call that is not inlined, does
    nothing and costs nothing.
    """
    return jax.lax.platform_dependent(tree, cpu=_call, default=jax.lax.optimization_barrier)


def _call(tree: T) -> T:
    with set_xla_metadata(inlineable="false"):
        return jax.jit(jax.lax.optimization_barrier)(tree)  # JAX itself would drop a call without any operation
