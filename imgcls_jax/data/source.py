"""What every source of images gives: encoded examples in a fixed order, with labels and names."""

import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

Encoded = Path | bytes | np.ndarray
"""An image as its source holds it: a file, the bytes of a file, or uint8 pixels [h, w] or [h, w, c]."""


@dataclass(frozen=True)
class Examples:
    """The examples of one split of a source, still encoded, in an order that never changes."""

    name: str
    """Split of the source: "train", "validation" or "test"."""
    labels: Int32[np.ndarray, " n"]
    """Class of each example, 0 … classes − 1."""
    ids: Sequence[str]
    """What identifies each example: its path below the root, or its record in the source. Distinct."""
    fingerprint: Callable[[], str]
    """Gives a text that changes when the encoded images change: the key of the canvas cache."""
    read: Callable[[Sequence[int]], list[Encoded]]
    """Gives the encoded images of these indices. Called by several threads at once."""
    pixels: UInt8[np.ndarray, "n h w c"] | None = None
    """The images themselves where the source holds them in memory in one shape."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples of these indices, in this order."""
        chosen = indices.tolist()
        return Examples(
            name=self.name,
            labels=self.labels[indices],
            ids=[self.ids[i] for i in chosen],
            fingerprint=lambda: digest(
                [self.fingerprint(), hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()]
            ),
            read=lambda some: self.read([chosen[i] for i in some]),
            pixels=None if self.pixels is None else self.pixels[indices],
        )


@dataclass(frozen=True)
class Source:
    """All splits of a source; a split that it lacks is None."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    class_names: tuple[str, ...]
    title: str
    """How messages call the source: "the folder /data/pets", "the tfds set cifar10:3.0.2"."""


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of the lines, in hexadecimal. File names that are not UTF-8 are hashed as their bytes."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return total.hexdigest()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean "x"?)' for the nearest known name, else an empty text."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{nearest[0]}"?)' if nearest else ""
