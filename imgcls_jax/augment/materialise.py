"""A fence that XLA does not fuse across, on a CPU as well."""

from typing import TypeVar

import jax

from imgcls_jax.outline import outlined

T = TypeVar("T")


def materialise(tree: T) -> T:
    """The same arrays, computed once.

    XLA fuses what computes an array into every loop that reads it: the matrix of a rotation would be computed anew for
    each pixel, and a cropped pixel for each of the four that a rotation blends. `optimization_barrier` forbids that on
    a GPU; on a CPU the arrays are the arguments of a call that is not inlined, does nothing and costs nothing.
    """
    barrier = jax.lax.optimization_barrier
    return jax.lax.platform_dependent(tree, cpu=outlined(barrier), default=barrier)
