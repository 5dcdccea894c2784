"""Functions that XLA's CPU backend leaves apart from what surrounds them."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from imgcls_jax.xla import target

T = TypeVar("T")


def outlined(function: Callable[..., T]) -> Callable[..., T]:
    """`function` as a call that is not inlined, so that nothing is fused across its arguments and results.

    `lax.optimization_barrier` does not prevent that on a CPU, where it is removed before the fusion. JAX drops a call
    in which there is no operation.

    Of a program for several devices it does nothing: a sum over the batch that becomes an all-reduce would lie inside
    the call, where XLA's CPU backend keeps no order among collectives, and two virtual devices would begin two of them
    in different orders and wait for each other for ever.
    """

    def call(*arguments):
        if target.current().devices > 1:
            return function(*arguments)
        with set_xla_metadata(inlineable="false"):
            return jax.jit(function)(*arguments)

    return call
