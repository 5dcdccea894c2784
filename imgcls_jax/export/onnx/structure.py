"""Operations that move, select or gather elements: most only rename axes, and cost nothing in the graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls_jax.export.onnx.elementwise import evaluate
from imgcls_jax.export.onnx.graph import Graph, Value

_END = np.iinfo(np.int64).max
_Shape = Sequence[Any]


def broadcast_in_dim(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Only rename axes: repetition costs nothing."""
    places = parameters["broadcast_dimensions"]
    return Value(tuple(int(places[axis]) for axis in value.axes), value.dims, value.name, value.array)


def transpose(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Only rename axes."""
    permutation = list(parameters["permutation"])
    return Value(tuple(permutation.index(axis) for axis in value.axes), value.dims, value.name, value.array)


def squeeze(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Drop axes of size 1."""
    kept = [axis for axis in range(len(shape)) if axis not in {d % len(shape) for d in parameters["dimensions"]}]
    value = _without(graph, value, [axis for axis in value.axes if axis not in kept])
    return Value(tuple(kept.index(axis) for axis in value.axes), value.dims, value.name, value.array)


def reshape(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Rename axes where only those of size 1 come or go; else put the elements in their logical order."""
    before = [axis for axis, dim in enumerate(shape) if dim != 1]
    after = [axis for axis, dim in enumerate(out) if dim != 1]
    if [shape[axis] for axis in before] == [out[axis] for axis in after]:
        value = _without(graph, value, [axis for axis in value.axes if axis not in before])
        return Value(tuple(after[before.index(axis)] for axis in value.axes), value.dims, value.name, value.array)
    if sum(not isinstance(dim, int) for dim in out) > 1:
        raise NotImplementedError(f"a reshape to {tuple(out)}, of which only one size may depend on the batch")
    sizes = [dim if isinstance(dim, int) else -1 for dim in out]
    if value.array is not None and -1 not in sizes:
        array = graph.known(value, shape).reshape(sizes)
        return Value(tuple(range(len(out))), array.shape, array=array)
    name = graph.full(value, shape)
    return Value(tuple(range(len(out))), tuple(out), graph.add("Reshape", name, graph.integers(sizes), rank=len(out)))


def _without(graph: Graph, value: Value, dropped: Sequence[int]) -> Value:
    """Drop physical axes of size 1."""
    if not dropped:
        return value
    places = [value.axes.index(axis) for axis in dropped]
    kept = [place for place in range(len(value.axes)) if place not in places]
    axes, dims = tuple(value.axes[place] for place in kept), tuple(value.dims[place] for place in kept)
    if value.array is not None:
        return Value(axes, dims, array=value.array.squeeze(tuple(places)))
    return Value(axes, dims, graph.once("Squeeze", value.name, graph.integers(places), rank=len(kept)))


def slice_(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Cut ranges out of axes; an axis that is taken whole is left alone."""
    starts, limits = parameters["start_indices"], parameters["limit_indices"]
    strides = parameters["strides"] or (1,) * len(shape)
    cut = {
        axis: (start, limit, stride)
        for axis, (start, limit, stride) in enumerate(zip(starts, limits, strides, strict=True))
        if not (start == 0 and limit == shape[axis] and stride == 1)
    }
    return _cut(graph, value, shape, out, cut)


def rev(graph: Graph, value: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Reverse axes."""
    return _cut(graph, value, shape, out, {axis: (-1, -_END, -1) for axis in parameters["dimensions"]})


def _cut(graph: Graph, value: Value, shape: _Shape, out: _Shape, cut: dict[int, tuple[Any, Any, int]]) -> Value:
    """Cut axes, each given by start, limit and step; repeated ones need no cut."""
    physical = dict(zip(value.axes, value.dims, strict=True))
    cut = {axis: ranges for axis, ranges in cut.items() if physical.get(axis, 1) == shape[axis]}
    cut = {axis: ranges for axis, ranges in cut.items() if axis in physical}
    if not cut:
        return value
    if not all(isinstance(number, int) for ranges in cut.values() for number in ranges):
        raise NotImplementedError("a slice whose bounds depend on the batch")
    dims = tuple(out[axis] if axis in cut else dim for axis, dim in zip(value.axes, value.dims, strict=True))
    if value.array is not None:
        index = tuple(
            slice(*(None if abs(number) == _END else number for number in cut[axis])) if axis in cut else slice(None)
            for axis in value.axes
        )
        return Value(value.axes, dims, array=value.array[index])
    starts, limits, steps = (list(column) for column in zip(*cut.values(), strict=True))
    places = [value.axes.index(axis) for axis in cut]
    inputs = [graph.integers(numbers) for numbers in (starts, limits, places, steps)]
    return Value(value.axes, dims, graph.add("Slice", value.name, *inputs, rank=len(value.axes)))


def concatenate(graph: Graph, values: Sequence[Value], shapes: Sequence[_Shape], out: _Shape, axis: int) -> Value:
    """Join arrays along an axis."""
    lead = max(values, key=lambda value: (not value.is_constant, len(value.axes)))
    order = lead.axes if len(lead.axes) == len(out) else tuple(range(len(out)))
    names = [graph.full(value, shape, order) for value, shape in zip(values, shapes, strict=True)]
    name = graph.add("Concat", *names, rank=len(out), axis=order.index(axis))
    return Value(order, tuple(out[axis] for axis in order), name)


def stack(graph: Graph, values: Sequence[Value], shape: _Shape, out: _Shape, axis: int) -> Value:
    """Join arrays along a new axis."""
    apart = [Value(tuple(a + (a >= axis) for a in value.axes), value.dims, value.name, value.array) for value in values]
    part = [1 if i == axis else dim for i, dim in enumerate(out)]
    return concatenate(graph, apart, [part] * len(values), out, axis)


def pad(graph: Graph, value: Value, padding: Value, shape: _Shape, out: _Shape, parameters: Any) -> Value:
    """Add a constant around the array; negative padding cuts."""
    low, high, inner = (list(column) for column in zip(*parameters["padding_config"], strict=True))
    if any(inner):
        raise NotImplementedError("padding between elements")
    cuts = {
        axis: (max(-low[axis], 0), shape[axis] - max(-high[axis], 0), 1)
        for axis in range(len(shape))
        if min(low[axis], high[axis]) < 0
    }
    inside = [shape[a] + min(low[a], 0) + min(high[a], 0) if a in cuts else shape[a] for a in range(len(shape))]
    value = _cut(graph, value, shape, inside, cuts)
    low, high = [max(n, 0) for n in low], [max(n, 0) for n in high]
    if not any(low) and not any(high):
        return value
    order = value.axes if len(value.axes) == len(shape) else tuple(range(len(shape)))
    amounts = graph.integers([low[axis] for axis in order] + [high[axis] for axis in order])
    inputs = graph.full(value, inside, order), amounts, graph.full(padding, ())
    name = graph.add("Pad", *inputs, rank=len(order), mode="constant")
    return Value(order, tuple(out[axis] for axis in order), name)


def gather(
    graph: Graph, inputs: Sequence[Value], shapes: Sequence[_Shape], out: _Shape, primitive: Any, p: Any
) -> Value:
    """Take elements at places that are known now and the same for every image.

    Where they lie is found by gathering the numbers of the elements of one image.
    """
    (value, indices), shape, numbers = inputs, shapes[0], p["dimension_numbers"]
    if not indices.is_constant or numbers.operand_batching_dims or isinstance(shape[0], int) or out[0] != shape[0]:
        raise NotImplementedError("places that are not the same for every image")
    one = (1, *shape[1:])
    size = int(np.prod(one))
    parameters = p | {"slice_sizes": (1, *p["slice_sizes"][1:])}
    taken = evaluate(
        primitive, [np.arange(size).reshape(one), graph.known(indices, shapes[1])], parameters | {"fill_value": -1}
    )
    taken = np.asarray(taken)
    if taken.min(initial=0) < 0:
        raise NotImplementedError("places outside of the array")
    places = np.unravel_index(taken[0], one[1:])
    if len(shapes[1]) == 1 and len(numbers.collapsed_slice_dims) == 1 and len(out) == len(shape) - 1:
        (axis,) = numbers.collapsed_slice_dims
        whole = tuple(dim for i, dim in enumerate(shape) if i != axis) == tuple(out)
        if whole and axis in value.axes:
            return _element(graph, value, axis, int(places[axis - 1].flat[0]))
    ranges = [_range(place, axis) for axis, place in enumerate(places)] if taken.ndim == len(one) else [None]
    known = [found for found in ranges if found is not None]
    if len(known) == len(ranges):
        cut = {axis: found for axis, found in enumerate(known, 1) if found != (0, shape[axis], 1)}
        return _cut(graph, value, shape, out, cut)
    flat = graph.add("Reshape", graph.full(value, shape), graph.integers([-1, size]), rank=2)
    name = graph.add("Gather", flat, graph.constant(taken[0].astype(np.int64)), rank=len(out), axis=1)
    return Value(tuple(range(len(out))), tuple(out), name)


def _element(graph: Graph, value: Value, axis: int, at: int) -> Value:
    """Take one element along an axis, which goes."""
    place = value.axes.index(axis)
    name = graph.add("Gather", value.name, graph.constant(np.int64(at)), rank=len(value.axes) - 1, axis=place)
    kept = [other for other in range(len(value.axes)) if other != place]
    axes = tuple(value.axes[other] - (value.axes[other] > axis) for other in kept)
    return Value(axes, tuple(value.dims[other] for other in kept), name)


def _range(places: np.ndarray, axis: int) -> tuple[int, int, int] | None:
    """Give start, limit and step, where the places along an axis are such a range whatever the other axes."""
    line = places[tuple(slice(None) if i == axis else 0 for i in range(places.ndim))]
    steps = np.unique(np.diff(line))
    expected = line.reshape([-1 if i == axis else 1 for i in range(places.ndim)])
    if len(steps) > 1 or (len(steps) == 1 and steps[0] < 1) or not (places == expected).all():
        return None
    return int(line[0]), int(line[-1]) + 1, int(steps[0]) if len(steps) else 1


def dynamic_slice(graph: Graph, value: Value, starts: Sequence[Value], shape: _Shape, out: _Shape) -> Value:
    """Cut at starts that are known now."""
    if not all(start.is_constant for start in starts):
        raise NotImplementedError("a start that depends on the image")
    at = [int(np.asarray(start.array)) for start in starts]
    first = [
        int(np.clip(start, 0, whole - part)) if isinstance(whole, int) else 0
        for start, whole, part in zip(at, shape, out, strict=True)
    ]
    cut = {axis: (first[axis], first[axis] + out[axis], 1) for axis in range(len(shape)) if out[axis] != shape[axis]}
    return _cut(graph, value, shape, out, cut)


def iota(out: _Shape, parameters: Any) -> Value:
    """Make the numbers along an axis."""
    size = parameters["shape"][parameters["dimension"]]
    if not isinstance(size, int):
        raise NotImplementedError("numbers along the batch")
    return Value((parameters["dimension"],), (size,), array=np.arange(size, dtype=parameters["dtype"]))


UNARY = {
    "broadcast_in_dim": broadcast_in_dim,
    "transpose": transpose,
    "squeeze": squeeze,
    "reshape": reshape,
    "slice": slice_,
    "rev": rev,
}
