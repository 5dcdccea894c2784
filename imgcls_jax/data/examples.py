"""What a data source gives: encoded images in a fixed order with labels, in up to three splits."""

import hashlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer, UInt, UInt8

from imgcls_jax.data.files import ImageFiles, described, read_regular, versions
from imgcls_jax.data.ids import ChosenIds, are_distinct
from imgcls_jax.errors import UserError, did_you_mean

Encoded = Path | bytes | np.ndarray
"""An image as its source holds it: a file, the bytes of a file, or uint8 or uint16 pixels [h, w] or [h, w, c]."""

Labels = Int32[np.ndarray, " n"] | UInt8[np.ndarray, "n k"] | Float32[np.ndarray, "n k"]
"""A class per example, 0 … classes − 1; or 1 for each of k labels that it has and 0 for the others; or k numbers."""

Label = str | int | np.integer
"""The name of a class, or its number from 0."""

Pair = tuple[Encoded | str, Label]
"""An image (a `str` is a path) and its label."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, the units done and the units in all (None: unknown): on_progress(label, done, total).

A new label begins a new wait.
"""


# Files whose first bytes belong to a fingerprint, and how many bytes.
_SAMPLED, _HEAD = 64, 2**16
# Lines of text that are hashed together.
_LINES = 1024


def no_progress(label: str, done: int, total: int | None) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Examples:
    """The examples of one split, still encoded, in an order that never changes."""

    name: str
    """Split of the source: "train", "validation" or "test"."""
    labels: Labels
    """Class of each example, its labels, or the numbers to predict of it."""
    ids: Sequence[str]
    """What identifies each example: its path below the root, or its record in the source. Distinct."""
    fingerprint: Callable[[], str]
    """Gives a text that changes when the encoded images change: the key of the canvas cache."""
    read: Callable[[Sequence[int]], list[Encoded]]
    """Gives the encoded images of these indices. Called by several threads at once."""
    pixels: UInt[np.ndarray, "n h w c"] | None = None
    """The images themselves where the source holds them in memory in one shape."""
    groups: Sequence[str] | None = None
    """What each image has in common with others, such as its patient: no group is divided among held-out splits. None:
    every image may be held out by itself."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Integer[np.ndarray, " k"]) -> "Examples":
        """Select the examples of these indices, in this order."""
        return Examples(
            name=self.name,
            labels=self.labels[indices],
            ids=ChosenIds(self.ids, indices.astype(np.int64)),
            fingerprint=lambda: digest(
                [self.fingerprint(), hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()]
            ),
            read=lambda some: self.read(indices[np.asarray(some, np.int64)].tolist()),
            pixels=None if self.pixels is None else self.pixels[indices],
            groups=None if self.groups is None else [self.groups[i] for i in indices.tolist()],
        )

    @classmethod
    def of_files(
        cls,
        name: str,
        files: ImageFiles,
        labels: Labels,
        root: Path,
        groups: Sequence[str] | None = None,
    ) -> "Examples":
        """Make the examples of one split from files that were found; their ids are the paths below `root`."""
        above = "" if root == Path() else os.path.join(root, "")
        ids = [file.removeprefix(above) for file in files.names]
        # One text of each file is kept, unless some are elsewhere.
        inside = all(file.startswith(above) for file in files.names)
        names, folder = (ids, root) if inside else (files.names, Path())
        if os.sep != "/":
            ids = [id.replace(os.sep, "/") for id in ids]
        numbers = files.numbers

        def path(index: int) -> Path:
            return folder / names[index]

        return cls(
            name=name,
            labels=labels,
            ids=ids,
            fingerprint=lambda: digest(
                itertools.chain([str(root.resolve())], ids, versions(numbers), _heads(path, len(ids)))
            ),
            read=lambda indices: [path(i) for i in indices],
            groups=groups,
        )

    @classmethod
    def from_pairs(cls, name: str, pairs: Iterable[Pair], class_names: Sequence[str], title: str) -> "Examples":
        """Make the examples of one split from a list of (image, label) pairs.

        Their ids are the paths as they are given, or `NAME[i]` for images in memory.

        Args:
          name: "train", "validation" or "test".
          pairs: images, each as a path, the bytes of a file, or uint8 or uint16 pixels [h, w] or [h, w, c], with the
            name of its class or its number.
          class_names: the name of each class, by number.
          title: how messages call the source.

        Raises:
          UserError: an image is of another kind, or a label is none of the classes.
        """
        pairs = list(pairs)
        numbers = {class_name: number for number, class_name in enumerate(class_names)}
        labels = np.empty(len(pairs), np.int32)
        for i, (_, label) in enumerate(pairs):
            if isinstance(label, str) and label not in numbers:
                raise UserError(
                    f'{name}[{i}] of {title} has the label "{label}", which is none of its {len(numbers)} classes'
                    + did_you_mean(label, numbers)
                )
            if not isinstance(label, str) and not 0 <= label < len(numbers):
                raise UserError(f"{name}[{i}] of {title} has the label {label}, but there are {len(numbers)} classes")
            labels[i] = numbers[label] if isinstance(label, str) else label
        images = [_encoded(image, f"{name}[{i}] of {title}") for i, (image, _) in enumerate(pairs)]
        paths = [image for image in images if isinstance(image, Path)]
        return cls(
            name=name,
            labels=labels,
            ids=[image.as_posix() if isinstance(image, Path) else f"{name}[{i}]" for i, image in enumerate(images)],
            fingerprint=lambda: digest([*map(_fingerprint, images), *_heads(paths.__getitem__, len(paths))]),
            read=lambda indices: [images[i] for i in indices],
            pixels=_stacked(images),
        )


@dataclass(frozen=True)
class Splits:
    """What opening a source gives: its splits, of which all but the training one may be lacking."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    class_names: tuple[str, ...]
    """Name of each class, by label; or of each label or number, by its column."""
    title: str
    """How messages call the source: "the folder /data/pets", "the tfds set cifar10:3.0.2"."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on what was understood and what was passed over."""

    @classmethod
    def from_pairs(
        cls,
        title: str,
        train: Iterable[Pair],
        validation: Iterable[Pair] | None = None,
        test: Iterable[Pair] | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> "Splits":
        """Make the splits of a source from lists of (image, label) pairs; see `Examples.from_pairs`.

        Example:
          >>> import numpy as np
          >>> black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
          >>> splits = Splits.from_pairs("two squares", [(black, "night"), (white, "day")])
          >>> splits.class_names, splits.train.labels.tolist()
          (('day', 'night'), [1, 0])

        Args:
          title: how messages call the source, such as "the table pets.csv".
          train: the training images with their labels: all of them names, or all of them numbers from 0.
          validation: likewise; None: `Data.validation_share` of the training images may be held out.
          test: likewise; None: `Data.test_share` of all images may be held out.
          class_names: the name of each class, by number; None: the names that occur in training in sorted order, or
            "0", "1", … to the greatest number there.

        Raises:
          UserError: there are no training images, labels are of both kinds, or an image or label is wrong.
        """
        train = list(train)
        if not train:
            raise UserError(f"{title} has no training images")
        if class_names is None:
            class_names = _class_names([label for _, label in train], title)
        given = {"train": train, "validation": validation, "test": test}
        splits = {
            name: Examples.from_pairs(name, pairs, class_names, title)
            for name, pairs in given.items()
            if pairs is not None
        }
        return cls(splits["train"], splits.get("validation"), splits.get("test"), tuple(class_names), title)


def check(splits: Any, opened: str) -> Splits:
    """Return what a source's `open` gave if it keeps the rules of `Splits` and `Examples`.

    Args:
      splits: what it gave.
      opened: the name of the source's class.

    Raises:
      UserError: it does not.
    """
    if not isinstance(splits, Splits):
        raise UserError(f"{opened}.open must return Splits, not {type(splits).__name__}")
    if not are_distinct(splits.class_names):
        twice = Counter(splits.class_names).most_common(1)[0][0]
        raise UserError(f'{splits.title} has two classes of the name "{twice}": each needs a name of its own')
    for examples in (splits.train, splits.validation, splits.test):
        if examples is None:
            continue
        where = f"the {examples.name} split of {splits.title} ({opened}.open)"
        labels = np.asarray(examples.labels)
        of_classes = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        vectors = labels.ndim == 2 and labels.dtype in (np.uint8, np.float32)
        if not of_classes and not (vectors and labels.shape[1] == len(splits.class_names)):
            raise UserError(
                f"labels of {where} must be integers of the shape [n], or with a name for each column uint8 (several "
                f"labels) or float32 (numbers to predict) of the shape [n, {len(splits.class_names)}], not "
                f"{labels.dtype} of the shape {list(labels.shape)}"
            )
        if not len(labels):
            raise UserError(f"{where} has no images")
        if vectors and not (np.isfinite(labels).all() if labels.dtype == np.float32 else labels.max() <= 1):
            must = "finite numbers" if labels.dtype == np.float32 else "0 or 1"
            raise UserError(f"labels of {where} must be {must}")
        if of_classes and not 0 <= labels.min() <= labels.max() < len(splits.class_names):
            raise UserError(
                f"labels of {where} go from {labels.min()} to {labels.max()}, but there are "
                f"{len(splits.class_names)} class names"
            )
        if len(examples.ids) != len(labels):
            raise UserError(f"{where} has {len(examples.ids)} ids, but {len(labels)} labels")
        if not are_distinct(examples.ids):
            twice = Counter(examples.ids).most_common(1)[0][0]
            raise UserError(f'{where} has the example "{twice}" twice: each needs an id of its own')
    return splits


def digest(lines: Iterable[str]) -> str:
    """Compute the SHA-256 of lines of text, in hexadecimal. File names that are not UTF-8 count as their bytes."""
    total, left = hashlib.sha256(), iter(lines)
    while part := list(itertools.islice(left, _LINES)):  # one by one they take twice as long
        total.update(("\n".join(part) + "\n").encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _class_names(labels: Sequence[Label], title: str) -> tuple[str, ...]:
    names = {label for label in labels if isinstance(label, str)}
    numbers = {label for label in labels if not isinstance(label, str)}
    if names and numbers:
        raise UserError(
            f"the training labels of {title} are names, such as {min(names)!r}, and numbers, such as {min(numbers)}: "
            "give all of one kind"
        )
    return tuple(sorted(names)) if names else tuple(str(i) for i in range(int(max(numbers)) + 1))


def _encoded(image: Any, where: str) -> Encoded:
    if isinstance(image, str | os.PathLike):
        return Path(image).expanduser()
    if isinstance(image, bytes):
        return image
    if not isinstance(image, np.ndarray):
        raise UserError(f"{where} must be a path, the bytes of an image file, or an array, not {type(image).__name__}")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not 0 < (*image.shape, 1)[2] <= 16:
        raise UserError(
            f"{where} must be a uint8 or uint16 array of the shape [h, w] or [h, w, 1 to 16], not {image.dtype} "
            f"{list(image.shape)}"
        )
    return image


def _fingerprint(image: Encoded) -> str:
    if isinstance(image, Path):
        return f"{image.absolute()} {described(image).version}"
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    depth = "" if image.dtype == np.uint8 else f"{image.dtype.str} "
    return f"{depth}{image.shape} {hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()}"


def _heads(path: Callable[[int], Path], count: int) -> list[str]:
    """Compute hashes of the first bytes of some of `count` files, spread evenly: all may have been given one time."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).astype(np.int64)).tolist()
    found = []
    for index in chosen:
        try:
            found.append(hashlib.sha256(read_regular(path(index), sys.maxsize, _HEAD)).hexdigest())
        except (OSError, ValueError):  # It is set aside when it is read.
            found.append("")
    return found


def _stacked(images: Sequence[Encoded]) -> UInt[np.ndarray, "n h w c"] | None:
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    if not arrays or len(arrays) < len(images) or len({(array.shape, array.dtype) for array in arrays}) > 1:
        return None
    stacked = np.stack(arrays)
    return stacked if stacked.ndim == 4 else stacked[..., None]
