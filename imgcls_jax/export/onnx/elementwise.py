"""Operations that treat every element by itself: how each is written in ONNX."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from imgcls_jax.export.onnx.graph import Graph, Value

# jax's primitive → ONNX's operator of the same inputs.
_SAME = {
    "abs": "Abs",
    "add": "Add",
    "add_any": "Add",
    "and": "And",
    "ceil": "Ceil",
    "cos": "Cos",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
    "xor": "Xor",
}

Emit = Callable[..., str]
"""(graph, rank, parameters, *names) → name."""


def _square(graph: Graph, rank: int, _: Any, x: str) -> str:
    return graph.add("Mul", x, x, rank=rank)


def _integer_pow(graph: Graph, rank: int, parameters: Any, x: str) -> str:
    power = parameters["y"]
    if power == 2:
        return graph.add("Mul", x, x, rank=rank)
    return graph.add("Pow", x, graph.constant(np.float32(power)), rank=rank)


def _rsqrt(graph: Graph, rank: int, _: Any, x: str) -> str:
    return graph.add("Reciprocal", graph.add("Sqrt", x, rank=rank), rank=rank)


def _erfc(graph: Graph, rank: int, _: Any, x: str) -> str:
    return graph.add("Sub", graph.constant(np.float32(1)), graph.add("Erf", x, rank=rank), rank=rank)


def _log1p(graph: Graph, rank: int, _: Any, x: str) -> str:
    return graph.add("Log", graph.add("Add", x, graph.constant(np.float32(1)), rank=rank), rank=rank)


def _expm1(graph: Graph, rank: int, _: Any, x: str) -> str:
    return graph.add("Sub", graph.add("Exp", x, rank=rank), graph.constant(np.float32(1)), rank=rank)


def _ne(graph: Graph, rank: int, _: Any, x: str, y: str) -> str:
    return graph.add("Not", graph.add("Equal", x, y, rank=rank), rank=rank)


def _is_finite(graph: Graph, rank: int, _: Any, x: str) -> str:
    odd = [graph.add(op, x, rank=rank) for op in ("IsInf", "IsNaN")]
    return graph.add("Not", graph.add("Or", *odd, rank=rank), rank=rank)


def _select(graph: Graph, rank: int, _: Any, which: str, if_false: str, if_true: str) -> str:
    return graph.add("Where", which, if_true, if_false, rank=rank)


def _clamp(graph: Graph, rank: int, _: Any, low: str, x: str, high: str) -> str:
    return graph.add("Min", graph.add("Max", x, low, rank=rank), high, rank=rank)


def _cast(graph: Graph, rank: int, parameters: Any, x: str) -> str:
    import onnx

    return graph.add("Cast", x, rank=rank, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(parameters["new_dtype"])))


def _renamed(op: str, graph: Graph, rank: int, _: Any, *inputs: str) -> str:
    return graph.add(op, *inputs, rank=rank)


RULES: dict[str, Emit] = {name: functools.partial(_renamed, op) for name, op in _SAME.items()} | {
    "square": _square,
    "integer_pow": _integer_pow,
    "rsqrt": _rsqrt,
    "erfc": _erfc,
    "log1p": _log1p,
    "expm1": _expm1,
    "ne": _ne,
    "is_finite": _is_finite,
    "select_n": _select,
    "clamp": _clamp,
    "convert_element_type": _cast,
}


def apply(
    graph: Graph, primitive: Any, values: Sequence[Value], shape: Sequence[Any], parameters: dict[str, Any]
) -> Value:
    """Apply an elementwise primitive to values that broadcast to a common logical shape; fold constants."""
    order = _order(values)
    sizes: dict[int, Any] = dict.fromkeys(order, 1)
    for value in values:
        for axis, dim in zip(value.axes, value.dims, strict=True):
            if sizes[axis] == 1:
                sizes[axis] = dim
    dims = tuple(sizes[axis] for axis in order)
    if all(value.is_constant for value in values):
        whole = [sizes.get(axis, 1) for axis in range(max(order, default=-1) + 1)]
        arrays = [graph.known(value, whole, order) for value in values]
        return Value(order, dims, array=np.asarray(evaluate(primitive, arrays, parameters)))
    emitted = RULES[primitive.name](graph, len(order), parameters, *(graph.aligned(value, order) for value in values))
    return Value(order, dims, emitted)


def _order(values: Sequence[Value]) -> tuple[int, ...]:
    """Choose the order of axes: that of the value of most axes, computed ones first."""
    lead = max(values, key=lambda value: (len(value.axes), not value.is_constant))
    every = {axis for value in values for axis in value.axes}
    return lead.axes if every == set(lead.axes) else tuple(sorted(every))


def evaluate(primitive: Any, arrays: Sequence[Any], parameters: dict[str, Any]) -> Any:
    """Compute a primitive of known arrays on the host."""
    with jax.ensure_compile_time_eval(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        return primitive.bind(*(jax.numpy.asarray(array) for array in arrays), **parameters)
