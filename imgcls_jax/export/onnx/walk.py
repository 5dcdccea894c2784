"""The walk: every operation that JAX traced becomes nodes of the graph, or is computed now where all is known."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import numpy as np
from jax.extend.core import Literal

from imgcls_jax.errors import UserError
from imgcls_jax.export.onnx import elementwise, linear, structure
from imgcls_jax.export.onnx.graph import Graph, Value, constant

# Operations that only hold a function: what they hold is walked.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
_NOTHING = {
    "stop_gradient",
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "sharding_constraint",
    "reduce_precision",
}


def trace(function: Callable[..., Any], shape: Sequence[int]) -> tuple[Graph, list[str]]:
    """Trace a function of a uint8 batch [batch, *shape] and walk it.

    Returns:
      The graph, whose input is called `image`, and the names of the function's outputs in it.

    Raises:
      UserError: an operation has no counterpart in ONNX; it names the operation and the layer.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), np.uint8))
    graph = Graph(batch)
    graph.ranks["image"] = 1 + len(shape)
    image = Value(tuple(range(1 + len(shape))), (batch, *shape), "image")
    if len(shape) == 3:
        # Channels before rows and columns, as ONNX's convolutions want them: once, while a pixel is one byte.
        name = graph.add("Transpose", "image", rank=4, perm=[0, 3, 1, 2])
        image = Value((0, 3, 1, 2), (batch, shape[2], shape[0], shape[1]), name)
    outputs = _walk(graph, traced.jaxpr, traced.consts, [image], "")
    names = [graph.full(value, aval.shape) for value, aval in zip(outputs, traced.out_avals, strict=True)]
    return graph, names


def _walk(graph: Graph, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value], layer: str) -> list[Value]:
    values: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {var: constant(np.asarray(array)) for var, array in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            aval: Any = atom.aval
            return constant(np.asarray(atom.val, aval.dtype))
        return values[atom]

    needed = _needed(jaxpr)
    for equation, is_needed in zip(jaxpr.eqns, needed, strict=True):
        if not is_needed:
            continue
        scope = str(equation.source_info.name_stack).rpartition("/")[2]
        inside = scope or layer
        try:
            results = _operation(graph, equation, [read(atom) for atom in equation.invars], inside)
        except NotImplementedError as error:
            raise UserError(_refusal(equation, inside, str(error))) from None
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Any) -> list[bool]:
    """Tell for each operation whether an output depends on it."""
    wanted = {id(var) for var in jaxpr.outvars}
    found = []
    for equation in reversed(jaxpr.eqns):
        needed = any(id(var) in wanted for var in equation.outvars)
        if needed:
            wanted |= {id(var) for var in equation.invars}
        found.append(needed)
    return found[::-1]


def _operation(graph: Graph, equation: Any, inputs: list[Value], layer: str) -> list[Value]:
    name, p = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = p[_CALLS[name]]
        return _walk(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs, layer)
    if name in _NOTHING:
        return inputs
    if name == "platform_index":
        return [constant(np.int32(next(i for i, names in enumerate(p["platforms"]) if names is None)))]
    if name == "cond":
        if not inputs[0].is_constant:
            raise NotImplementedError("a choice that depends on the image")
        branch = p["branches"][int(np.clip(np.asarray(inputs[0].array), 0, len(p["branches"]) - 1))]
        return _walk(graph, branch.jaxpr, branch.consts, inputs[1:], layer)
    shapes = [atom.aval.shape for atom in equation.invars]
    out = equation.outvars[0].aval.shape
    if name in elementwise.RULES:
        return [elementwise.apply(graph, equation.primitive, inputs, out, p)]
    if name in structure.UNARY:
        return [structure.UNARY[name](graph, inputs[0], shapes[0], out, p)]
    if name == "iota":
        return [structure.iota(out, p)]
    if inputs and all(value.is_constant for value in inputs) and _is_static(*shapes, out):
        arrays = [graph.known(value, shape) for value, shape in zip(inputs, shapes, strict=True)]
        found = elementwise.evaluate(equation.primitive, arrays, p)
        return [constant(np.asarray(one)) for one in (found if equation.primitive.multiple_results else [found])]
    return _several(graph, equation, inputs, shapes, out)


def _several(graph: Graph, equation: Any, inputs: list[Value], shapes: Sequence[Any], out: Any) -> list[Value]:
    """Operations that need the values of more than one element."""
    p = equation.params
    match equation.primitive.name:
        case "concatenate":
            return [structure.concatenate(graph, inputs, shapes, out, p["dimension"])]
        case "stack":
            return [structure.stack(graph, inputs, shapes[0], out, p["axis"])]
        case "pad":
            return [structure.pad(graph, inputs[0], inputs[1], shapes[0], out, p)]
        case "gather":
            return [structure.gather(graph, inputs, shapes, out, equation.primitive, p)]
        case "dynamic_slice":
            return [structure.dynamic_slice(graph, inputs[0], inputs[1:], shapes[0], out)]
        case "split":
            return _split(graph, inputs[0], shapes[0], equation)
        case "conv_general_dilated":
            return [linear.conv_general_dilated(graph, inputs[0], inputs[1], shapes, out, p)]
        case "dot_general":
            return [linear.dot_general(graph, inputs[0], inputs[1], shapes, out, p)]
        case "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod" as kind:
            return [linear.reduce(graph, kind, inputs[0], shapes[0], out, p)]
        case "reduce_window_max" | "reduce_window_sum" as kind:
            return [linear.reduce_window(graph, kind, inputs[0], shapes[0], out, p)]
    raise NotImplementedError("")


def _split(graph: Graph, value: Value, shape: Sequence[Any], equation: Any) -> list[Value]:
    axis, start, parts = equation.params["axis"], 0, []
    for size, var in zip(equation.params["sizes"], equation.outvars, strict=True):
        first = [start if i == axis else 0 for i in range(len(shape))]
        last = [start + size if i == axis else dim for i, dim in enumerate(shape)]
        ranges = {"start_indices": first, "limit_indices": last, "strides": None}
        parts.append(structure.slice_(graph, value, shape, var.aval.shape, ranges))
        start += size
    return parts


def _is_static(*shapes: Sequence[Any]) -> bool:
    return all(isinstance(dim, int) for shape in shapes for dim in shape)


def _refusal(equation: Any, layer: str, why: str) -> str:
    where = f"the layer {layer}" if layer else "the network"
    detail = f" ({why})" if why else ""
    return (
        f"{where} uses JAX's operation {equation.primitive.name}{detail}, which cannot be written as ONNX: export to "
        "stablehlo, or write the layer with other operations"
    )
