"""A fence that XLA does not fuse across, on a CPU as well."""

from typing import TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def materialise(tree: T) -> T:
    """The same arrays, computed once.

    XLA fuses what computes an array into every loop that reads it: the matrix of a rotation would be computed anew for
    each pixel, and a cropped pixel for each of the four that a rotation blends. `optimization_barrier` forbids that on
    a GPU, but XLA:CPU drops it before it fuses.
    """
    return jax.lax.platform_dependent(tree, cpu=_loop_once, default=jax.lax.optimization_barrier)


def _loop_once(tree: T) -> T:
    """A loop whose single trip adds its counter, zero; XLA knows neither how many trips it makes nor what it adds."""
    first = jax.tree.leaves(tree)[0]
    probe = first[(0,) * first.ndim].astype(jnp.float32)
    trips = (probe == probe).astype(jnp.int32)  # nothing is added where the probe is NaN, which is as good

    def trip(i, tree):
        return jax.tree.map(lambda leaf: leaf + i.astype(leaf.dtype), tree)

    return jax.lax.fori_loop(0, trips, trip, tree)
