"""Watch the layers of a model while it is called."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
from flax import nnx


@contextlib.contextmanager
def watching(model: nnx.Module, seen: Callable[[str, nnx.Module, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call `seen` with path, layer, arguments and output of every layer of the model that finishes inside the block.

    Under `jit` the arrays are tracers.
    """

    def watched(call: Callable, name: str, self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        output = call(self, *args, **kwargs)
        seen(name, self, args, output)
        return output

    with _wrapping(model, watched):
        yield


@contextlib.contextmanager
def naming(model: nnx.Module) -> Iterator[None]:
    """Within it, what is traced of the model carries the path of its layer as JAX's name scope."""

    def named(call: Callable, name: str, self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(name) if name else contextlib.nullcontext():
            return call(self, *args, **kwargs)

    with _wrapping(model, named):
        yield


@contextlib.contextmanager
def _wrapping(model: nnx.Module, around: Callable[..., Any]) -> Iterator[None]:
    """Within it, a call of a layer of the model is `around(call, path, layer, *arguments)`."""
    names = {id(part): ".".join(map(str, path)) for path, part in nnx.iter_modules(model)}

    def wrapped(call: Callable) -> Callable:
        def wrapper(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            name = names.get(id(self))
            return around(call, name, self, *args, **kwargs) if name is not None else call(self, *args, **kwargs)

        return wrapper

    with contextlib.ExitStack() as stack:
        for kind in {type(part) for _, part in nnx.iter_modules(model) if callable(part)}:
            stack.enter_context(mock.patch.object(kind, "__call__", wrapped(kind.__call__)))
        yield
