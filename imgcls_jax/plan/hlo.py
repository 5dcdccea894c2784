"""Read what a compiled program does in its HLO text: collectives, memory traffic, a TPU's estimated cycles."""

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_BITS = {"pred": 8, "s4": 4, "u4": 4, "c64": 64, "c128": 128, "bf16": 16}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# They move nothing.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")


@dataclass(frozen=True)
class Operation:
    """One line of a computation."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    """Bytes of each array of the result."""
    operands: tuple[str, ...]
    text: str

    @property
    def size(self) -> int:
        """Bytes of the result."""
        # What starts a transfer gives its operand, then the result, then handles; an all-reduce's start the sums alone.
        started = self.kind.endswith("-start") and self.kind != "all-reduce-start"
        return sum(self.sizes[1:2] if started else self.sizes)


@dataclass(frozen=True)
class Program:
    """The computations of an HLO module by name."""

    computations: dict[str, tuple[Operation, ...]]
    entry: str

    def collectives(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (count, bytes)} per run, of one device; those of a loop as often as it runs. The bytes are the
        whole arrays': of the results, and of a reduce-scatter, which leaves each device a part, of the operands."""
        found: dict[str, tuple[int, int]] = {}
        sizes = {op.name: op.size for operations in self.computations.values() for op in operations}

        def add(operation: Operation, times: int) -> None:
            kind = operation.kind.removesuffix("-start")
            if kind not in _COLLECTIVES:
                return
            count, total = found.get(kind, (0, 0))
            scattered = sum(sizes.get(name, 0) for name in operation.operands) if kind == "reduce-scatter" else 0
            found[kind] = count + times, total + times * max(operation.size, scattered)

        self._walk(add, fusions=True)
        return found

    def traffic(self) -> int:
        """Return the bytes that every operation outside a fusion reads and writes, as if no cache held anything."""
        total = 0
        sizes = {op.name: op.size for operations in self.computations.values() for op in operations}

        def add(operation: Operation, times: int) -> None:
            nonlocal total
            if operation.kind not in (
                *_FREE,
                "while",
                "call",
                "conditional",
                "async-start",
            ) and not operation.kind.endswith("-done"):
                total += times * (operation.size + sum(sizes.get(name, 0) for name in operation.operands))

        self._walk(add)
        return total

    def cycles(self) -> int:
        """Return the TPU compiler's estimate of cycles, summed over all operations that have one; else 0."""
        total = 0

        def add(operation: Operation, times: int) -> None:
            nonlocal total
            if found := re.search(r'"estimated_cycles":"(\d+)"', operation.text):
                total += times * int(found[1])

        self._walk(add)
        return total

    def _walk(self, visit: Callable[[Operation, int], None], *, fusions: bool = False) -> None:
        """Visit the operations of the entry and of what it calls, each with how often it runs."""

        def computation(name: str, times: int) -> None:
            for operation in self.computations.get(name, ()):
                visit(operation, times)
                trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', operation.text)
                called = []
                if operation.kind == "while":
                    called = re.findall(r"body=%?([\w.\-]+)", operation.text)
                elif operation.kind == "call":
                    called = re.findall(r"to_apply=%?([\w.\-]+)", operation.text)
                elif operation.kind == "async-start" or (fusions and operation.kind == "fusion"):
                    called = re.findall(r"calls=%?([\w.\-]+)", operation.text)
                for inner in called:
                    computation(inner, times * (int(trips[1]) if trips else 1))

        computation(self.entry, 1)


def parse(text: str) -> Program:
    """Read the text of a compiled HLO module."""
    computations: dict[str, tuple[Operation, ...]] = {}
    entry, name, operations = "", "", list[Operation]()
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            name, operations = head[2], []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            computations[name] = tuple(operations)
        elif operation := _operation(line):
            operations.append(operation)
    return Program(computations, entry)


def _operation(line: str) -> Operation | None:
    found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
    kind = found and re.search(r"(?:^|\s)([a-z][\w\-]*)\(", found[2])
    if not found or not kind:
        return None
    shapes = re.findall(r"\b([a-z]+\d*\w*)\[([\d,]*)\]", found[2][: kind.start()])
    operands = found[2][kind.end() :].partition(")")[0]
    return Operation(
        found[1],
        kind[1],
        tuple(_bytes(dtype, dimensions) for dtype, dimensions in shapes),
        tuple(re.findall(r"%([\w.\-]+)", operands)),
        found[2],
    )


@functools.cache
def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+(\d+)", dtype)
    return int(found[1]) if found else 0  # a token has none


def _bytes(dtype: str, dimensions: str) -> int:
    return math.prod(int(n) for n in dimensions.split(",") if n) * _bits(dtype) // 8
