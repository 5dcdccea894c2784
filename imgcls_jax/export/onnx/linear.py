"""Sums of many elements: convolutions, matrix products, poolings, reductions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls_jax.export.onnx.graph import Graph, Value

_Shape = Sequence[Any]
_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def conv_general_dilated(graph: Graph, x: Value, kernel: Value, shapes: Sequence[_Shape], out: _Shape, p: Any) -> Value:
    """A convolution; the array's axes become [batch, channels, rows, columns] from here on."""
    if p["batch_group_count"] != 1 or any(d != 1 for d in p["lhs_dilation"]):
        raise NotImplementedError("a transposed convolution")
    numbers = p["dimension_numbers"]
    low, high = zip(*p["padding"], strict=True)
    if min(*low, *high) < 0:
        raise NotImplementedError("a convolution with negative padding")
    inputs = graph.full(x, shapes[0], numbers.lhs_spec), graph.full(kernel, shapes[1], numbers.rhs_spec)
    name = graph.add(
        "Conv",
        *inputs,
        rank=len(out),
        kernel_shape=[shapes[1][axis] for axis in numbers.rhs_spec[2:]],
        strides=list(p["window_strides"]),
        pads=[*low, *high],
        dilations=list(p["rhs_dilation"]),
        group=p["feature_group_count"],
    )
    return Value(tuple(numbers.out_spec), tuple(out[axis] for axis in numbers.out_spec), name)


def dot_general(graph: Graph, x: Value, y: Value, shapes: Sequence[_Shape], out: _Shape, p: Any) -> Value:
    """A matrix product: logical axes of the result are those of the batch, the free ones of x, those of y."""
    (x_sum, y_sum), (x_batch, y_batch) = p["dimension_numbers"]
    x_free = [axis for axis in range(len(shapes[0])) if axis not in (*x_sum, *x_batch)]
    y_free = [axis for axis in range(len(shapes[1])) if axis not in (*y_sum, *y_batch)]
    if x.is_constant and not y.is_constant and not x_batch and len(x_sum) == 1 and len(x_free) == 1:
        # The weights are on the left: swap, and rename the axes of the result.
        swapped = {"dimension_numbers": ((y_sum, x_sum), ((), ()))}
        names = [out[axis] for axis in (*range(len(x_free), len(out)), *range(len(x_free)))]
        value = dot_general(graph, y, x, shapes[::-1], names, swapped)
        count = len(y_free)
        axes = tuple(axis + len(x_free) if axis < count else axis - count for axis in value.axes)
        return Value(axes, value.dims, value.name)
    if not x_batch and len(x_sum) == 1 and len(y_free) == 1:
        name = graph.add(
            "MatMul",
            graph.full(x, shapes[0], [*x_free, *x_sum]),
            graph.full(y, shapes[1], [*y_sum, *y_free]),
            rank=len(out),
        )
        return Value(tuple(range(len(out))), tuple(out), name)
    left = _matrix(graph, x, shapes[0], x_batch, x_free, x_sum)
    right = _matrix(graph, y, shapes[1], y_batch, y_sum, y_free)
    rank = len(x_batch) + 2
    name = graph.add("MatMul", left, right, rank=rank)
    if rank != len(out):
        sizes = [dim if isinstance(dim, int) else -1 for dim in out]
        if sizes.count(-1) > 1:
            raise NotImplementedError("a matrix product of which two sizes depend on the batch")
        name = graph.add("Reshape", name, graph.integers(sizes), rank=len(out))
    return Value(tuple(range(len(out))), tuple(out), name)


def _matrix(graph: Graph, value: Value, shape: _Shape, batch: Sequence[int], rows: Any, columns: Any) -> str:
    """Give [batch …, rows, columns], several axes of a kind joined into one."""
    name = graph.full(value, shape, [*batch, *rows, *columns])
    if len(rows) == len(columns) == 1:
        return name
    sizes = [shape[axis] for axis in batch]
    for group in (rows, columns):
        dims = [shape[axis] for axis in group]
        sizes.append(int(np.prod(dims)) if all(isinstance(dim, int) for dim in dims) else -1)
    sizes = [size if isinstance(size, int) else -1 for size in sizes]
    if sizes.count(-1) > 1:
        raise NotImplementedError("a matrix product of which two sizes depend on the batch")
    return graph.add("Reshape", name, graph.integers(sizes), rank=len(sizes))


def reduce(graph: Graph, primitive: str, value: Value, shape: _Shape, out: _Shape, p: Any) -> Value:
    """A sum, product or extreme over axes."""
    reduced = {int(axis) for axis in p["axes"]}
    dims = dict(zip(value.axes, value.dims, strict=True))
    if all(dims.get(axis, 1) == shape[axis] for axis in reduced):
        value = value if reduced <= set(value.axes) else _whole(graph, value, shape)
    else:
        value = _whole(graph, value, shape)
    places = [place for place, axis in enumerate(value.axes) if axis in reduced]
    kept = [place for place in range(len(value.axes)) if place not in places]
    axes = tuple(value.axes[place] - sum(axis < value.axes[place] for axis in reduced) for place in kept)
    inputs = value.name if value.array is None else graph.constant(value.array), graph.integers(places)
    name = graph.add(_REDUCTIONS[primitive], *inputs, rank=len(kept), keepdims=0)
    if all(isinstance(value.dims[place], int) for place in places):
        graph.counts[name] = int(np.prod([value.dims[place] for place in places]))
    return Value(axes, tuple(value.dims[place] for place in kept), name)


def _whole(graph: Graph, value: Value, shape: _Shape) -> Value:
    return Value(tuple(range(len(shape))), tuple(shape), graph.full(value, shape))


def reduce_window(graph: Graph, primitive: str, value: Value, shape: _Shape, out: _Shape, p: Any) -> Value:
    """A pooling of [batch, rows, columns, channels] or any array whose windows cover two of its axes."""
    window, strides = p["window_dimensions"], p["window_strides"]
    low, high = zip(*p["padding"], strict=True)
    if any(d != 1 for d in (*p["base_dilation"], *p["window_dilation"])):
        raise NotImplementedError("a dilated pooling")
    if len(shape) != 4 or window[0] != 1:
        raise NotImplementedError(f"a pooling of windows {tuple(window)}")
    spatial = [axis for axis in (1, 2, 3) if window[axis] != 1 or strides[axis] != 1][:2]
    spatial = spatial if len(spatial) == 2 else ([1, 2] if window[3] == 1 else [2, 3])
    order = (0, *(axis for axis in (1, 2, 3) if axis not in spatial), *spatial)
    if any(window[axis] != 1 for axis in order[:2]):
        raise NotImplementedError(f"a pooling of windows {tuple(window)}")
    attributes: dict[str, Any] = {
        "kernel_shape": [window[axis] for axis in spatial],
        "strides": [strides[axis] for axis in spatial],
        "pads": [low[axis] for axis in spatial] + [high[axis] for axis in spatial],
    }
    source = graph.full(value, shape, order)
    if primitive == "reduce_window_max":
        # onnxruntime takes no padding as wide as the window: such comes of nothing that pools.
        name = graph.add("MaxPool", source, rank=4, **attributes)
    else:
        name = graph.add("AveragePool", source, rank=4, count_include_pad=1, **attributes)
        size = graph.constant(np.float32(np.prod(attributes["kernel_shape"])))
        name = graph.add("Mul", name, size, rank=4)
    return Value(order, tuple(out[axis] for axis in order), name)
