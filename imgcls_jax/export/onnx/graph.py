"""The ONNX graph while it is built, and the values that the walk carries through it."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Node:
    """One operation of the graph."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the traced function: a name in the graph, or a constant, perhaps in another order of axes.

    Physical axis i is logical axis `axes[i]`. A logical axis that is missing, or of which `dims` says 1 while the
    array has more, is repeated: broadcasting costs nothing until an operation needs the values themselves.
    """

    axes: tuple[int, ...]
    dims: tuple[Any, ...]
    """Physical sizes; the batch's is symbolic."""
    name: str = ""
    array: np.ndarray | None = None
    """The physical values of a constant."""

    @property
    def is_constant(self) -> bool:
        """Whether the value is known now."""
        return self.array is not None


def constant(array: np.ndarray | np.generic) -> Value:
    """Make the value of an array that is known."""
    array = np.asarray(array)
    return Value(tuple(range(array.ndim)), array.shape, array=array)


class Graph:
    """Nodes in order, and the constants that they read."""

    def __init__(self, batch: Any):
        """`batch`: the symbolic size of the first axis of the input."""
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.ranks: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        """How many elements each element of a ReduceSum is the sum of, where the batch is not among its axes."""
        self.batch = batch
        self.source = "image"
        self._known: dict[Any, str] = {}
        self._numbers = itertools.count()

    def constant(self, array: np.ndarray | np.generic) -> str:
        """Give the name of a constant; equal small ones, and the same array, are stored once."""
        array = np.asarray(array)
        key: Any = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else id(array)
        if key not in self._known:
            name = f"constant_{next(self._numbers)}"
            self.constants[name], self._known[key] = array, name
            self.ranks[name] = array.ndim
        return self._known[key]

    def integers(self, values: Sequence[int | np.integer]) -> str:
        """Give the name of a constant vector of int64."""
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, *inputs: str, rank: int, **attributes: Any) -> str:
        """Append a node; return the name of its output, which has `rank` axes."""
        output = f"{op.lower()}_{next(self._numbers)}"
        self.nodes.append(Node(op, list(inputs), output, attributes))
        self.ranks[output] = rank
        return output

    def once(self, op: str, *inputs: str, rank: int, **attributes: Any) -> str:
        """Append a node unless the same one is there."""
        key = (op, inputs, tuple(sorted((name, str(value)) for name, value in attributes.items())))
        if key not in self._known:
            self._known[key] = self.add(op, *inputs, rank=rank, **attributes)
        return self._known[key]

    def rename(self, name: str, public: str) -> None:
        """Call an output of the graph by a name of its own."""
        node = Node("Identity", [name], public, {})
        maker = next((maker for maker in self.nodes if maker.output == name), None)
        if maker is not None:
            maker.output = public
            for reader in self.nodes:
                reader.inputs = [public if read == name else read for read in reader.inputs]
        else:
            self.nodes.append(node)
        self.ranks[public] = self.ranks[name]

    # ---- values as names in a given order of axes

    def aligned(self, value: Value, order: Sequence[int]) -> str:
        """Give a value that broadcasts against an array whose physical axes are `order`; sizes may still be 1."""
        relative = [axis for axis in order if axis in value.axes]
        places = [order.index(axis) for axis in relative]
        first = min(places, default=len(order))
        inserted = [place - first for place in range(first, len(order)) if place not in places]
        permutation = [value.axes.index(axis) for axis in relative]
        if value.array is not None:
            array = value.array
            if permutation != sorted(permutation):
                array = array.transpose(permutation)
            return self.constant(np.expand_dims(array, inserted) if inserted else array)
        name = self._permuted(value.name, permutation)
        if inserted:
            name = self.once("Unsqueeze", name, self.integers(inserted), rank=len(places) + len(inserted))
        return name

    def full(self, value: Value, shape: Sequence[Any], order: Sequence[int] | None = None) -> str:
        """Give a value with all its logical axes, at their full sizes, in this order (None: their own)."""
        order = range(len(shape)) if order is None else order
        order = list(order)
        dims = dict(zip(value.axes, value.dims, strict=True))
        if value.array is not None and all(isinstance(shape[axis], int) for axis in order):
            return self.constant(self.known(value, shape, order))
        if all(dims.get(axis, 1) == shape[axis] for axis in order):
            name = self.aligned(value, order)
            missing = len(order) - self.ranks[name]
            return self.once("Unsqueeze", name, self.integers(range(missing)), rank=len(order)) if missing else name
        return self.once(
            "Expand", self.aligned(value, order), self._sizes([shape[axis] for axis in order]), rank=len(order)
        )

    @staticmethod
    def known(value: Value, shape: Sequence[int], order: Sequence[int] | None = None) -> np.ndarray:
        """Give the array of a constant with all its logical axes, at their full sizes, in this order."""
        assert value.array is not None
        order = range(len(shape)) if order is None else order
        present = [axis for axis in order if axis in value.axes]
        array = value.array.transpose([value.axes.index(axis) for axis in present])
        array = np.expand_dims(array, [place for place, axis in enumerate(order) if axis not in value.axes])
        full = tuple(shape[axis] for axis in order)
        if array.shape == full:
            return value.array if array.strides == value.array.strides and full == value.array.shape else array
        return np.ascontiguousarray(np.broadcast_to(array, full))

    def drop(self, wanted: set[str]) -> None:
        """Keep only these names."""
        self.nodes = [node for node in self.nodes if node.output in wanted]
        self.constants = {name: array for name, array in self.constants.items() if name in wanted}
        self._known = {key: name for key, name in self._known.items() if name in wanted}

    def _permuted(self, name: str, permutation: Sequence[int]) -> str:
        if list(permutation) == list(range(len(permutation))):
            return name
        return self.once("Transpose", name, rank=len(permutation), perm=list(permutation))

    def _sizes(self, dims: Sequence[Any]) -> str:
        """Give a vector of sizes, that of the batch as it is at run time."""
        if all(isinstance(dim, int) for dim in dims):
            return self.integers(dims)
        size = self.once("Shape", self.source, rank=1, start=0, end=1)
        parts: list[str] = []
        for is_fixed, group in itertools.groupby(dims, lambda dim: isinstance(dim, int)):
            if is_fixed:
                parts.append(self.integers(list(group)))
            else:
                parts += [self._multiple(size, dim) for dim in group]
        return self.once("Concat", *parts, rank=1, axis=0) if len(parts) > 1 else parts[0]

    def _multiple(self, size: str, dim: Any) -> str:
        if dim == self.batch:
            return size
        factor = next((n for n in range(2, 64) if dim == n * self.batch), None)
        if factor is None:
            raise NotImplementedError(f"an array of {dim} rows, which is no multiple of the batch")
        return self.once("Mul", size, self.integers([factor]), rank=1)
