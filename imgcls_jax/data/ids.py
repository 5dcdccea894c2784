"""Ids of examples that are made when they are asked for: as strings, those of 10⁸ examples take 12 GB."""

import bisect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np
from jaxtyping import Int64


class LazyIds(Sequence[str]):
    """A sequence of strings that does not hold them. It equals a list of the same ones."""

    @abstractmethod
    def _id(self, index: int) -> str:
        """Return the id at an index from 0 to len − 1."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: Any) -> Any:
        found = range(len(self))[index]  # which raises as a list does
        return [self._id(i) for i in found] if isinstance(found, range) else self._id(found)

    def __iter__(self) -> Iterator[str]:
        return map(self._id, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented
        return all(own == theirs for own, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class RecordIds(LazyIds):
    """Ids FILE#RECORD of ranges of records, one after the other."""

    def __init__(self, ranges: Iterable[tuple[str, int, int]]):
        """Take the name of each file, its first record, and the number of records."""
        self._ranges = [one for one in ranges if one[2] > 0]
        self._ends = list(accumulate(count for _, _, count in self._ranges))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _id(self, index: int) -> str:
        place = bisect.bisect_right(self._ends, index)
        name, first, count = self._ranges[place]
        return f"{name}#{first + index - (self._ends[place] - count)}"

    def __iter__(self) -> Iterator[str]:
        return (f"{name}#{record}" for name, first, count in self._ranges for record in range(first, first + count))

    def common(self, other: "RecordIds") -> int:
        """Count the pairs of equal ids of this one and another."""
        theirs: dict[str, list[tuple[int, int]]] = {}
        for name, first, count in other._ranges:
            theirs.setdefault(name, []).append((first, first + count))
        return sum(
            max(0, min(first + count, end) - max(first, start))
            for name, first, count in self._ranges
            for start, end in theirs.get(name, ())
        )


class ChosenIds(LazyIds):
    """The ids of some examples, by their indices."""

    def __init__(self, ids: Sequence[str], rows: Int64[np.ndarray, " n"]):
        self._ids, self._rows = ids, rows

    def __len__(self) -> int:
        return len(self._rows)

    def _id(self, index: int) -> str:
        return self._ids[int(self._rows[index])]


def are_distinct(ids: Sequence[str]) -> bool:
    """Return whether no id occurs twice; by their hashes, whose array takes a sixth of a set of strings."""
    hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any() or len(set(ids)) == len(ids)
