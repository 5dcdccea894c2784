"""A fence that XLA does not fuse across, on a CPU as well."""

from typing import TypeVar

import jax

from imgcls_jax.xla.outline import outlined

T = TypeVar("T")


def materialize(tree: T) -> T:
    """Compute the arrays of `tree` once and return them unchanged.

    XLA fuses what computes an array into every loop that reads it: without this, the matrix of a rotation would be
    computed anew for each pixel, and a cropped pixel for each of the four that a rotation blends.
    `optimization_barrier` forbids that on a GPU. On a CPU the arrays are the arguments of a call that is not inlined;
    it does nothing and costs nothing.
    """
    barrier = jax.lax.optimization_barrier
    return jax.lax.platform_dependent(tree, cpu=outlined(barrier), default=barrier)
