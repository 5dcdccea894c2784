"""Functions that XLA's CPU backend leaves apart from what surrounds them."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

T = TypeVar("T")

_ALLOWED = contextvars.ContextVar("_ALLOWED", default=True)


@contextlib.contextmanager
def allowed(devices: int) -> Iterator[None]:
    """Within it, trace a computation for this many devices: `outlined` does nothing for several.

    A sum over the batch that becomes an all-reduce would lie inside the call, where XLA's CPU backend keeps no order
    among collectives: two virtual devices would begin two of them in different orders and wait for each other for ever.
    """
    before = _ALLOWED.set(devices == 1)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def outlined(function: Callable[..., T]) -> Callable[..., T]:
    """`function` as a call that is not inlined, so that nothing is fused across its arguments and results.

    `lax.optimization_barrier` does not prevent that on a CPU, where it is removed before the fusion. JAX drops a call
    in which there is no operation.
    """

    def call(*arguments):
        if not _ALLOWED.get():
            return function(*arguments)
        with set_xla_metadata(inlineable="false"):
            return jax.jit(function)(*arguments)

    return call
