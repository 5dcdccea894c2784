"""Files of predictions as two class competitions want them, written and checked row by row.

Out of distribution: `submission_ood.csv`, header `id,label`. The id `distortion07_3_421` is the array
distortion07.npy, severity 3 and image 421. Arrays are counted from 0, severities from 1 to 5 as in CIFAR-100-C (image i
of severity s is row (s − 1) · images + i of its array), images from 0; rows come in that order. The label is a class
number.

Sketch: header `Id,Category`. The Id is an image's file name without `.jpeg`, the Category the class number in the
sorted order of the training folders; rows come in the order of the names.
"""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from imgcls_jax.errors import UserError

DISTORTIONS, SEVERITIES, IMAGES = 19, 5, 10_000
"""Of the whole out-of-distribution submission: 950,000 rows."""

_OOD_HEADER = ["id", "label"]
_SKETCH_HEADER = ["Id", "Category"]


def write_ood(path: Path, labels: Int[np.ndarray, "distortions severities images"]) -> None:
    """Write class numbers as `submission_ood.csv`."""
    _write(path, _OOD_HEADER, zip(_ood_ids(*labels.shape), labels.ravel().tolist(), strict=True))


def check_names(names: Sequence[str], where: Path) -> None:
    """Raise UserError unless the arrays of a folder are distortion00, distortion01, … without a gap."""
    expected = tuple(f"distortion{i:02}" for i in range(len(names)))
    if tuple(names) != expected:
        raise UserError(
            f"a submission is of distortion00.npy, distortion01.npy and so on without a gap, but {where} holds "
            f"{', '.join(names)}"
        )


def check_ood(
    path: Path, *, classes: int, distortions: int = DISTORTIONS, severities: int = SEVERITIES, images: int = IMAGES
) -> int:
    """The number of rows of a sound submission.

    Raises:
      UserError: names the first wrong line and what is wrong with it.
    """
    return _check(path, _OOD_HEADER, _ood_ids(distortions, severities, images), classes)


def sketch_ids(files: Iterable[Path]) -> list[str]:
    """The Ids of the images, sorted.

    Raises:
      UserError: a file is no `.jpeg`, or two have the same name.
    """
    files = list(files)
    for file in files:
        if file.suffix != ".jpeg":
            raise UserError(f"{file} is not named NAME.jpeg, so that its Id in the submission is unknown")
    ids = sorted(file.stem for file in files)
    for one, next_one in itertools.pairwise(ids):
        if one == next_one:
            raise UserError(f"two images are called {one}.jpeg: Ids must be distinct")
    return ids


def write_sketch(path: Path, files: Sequence[Path], labels: Int[np.ndarray, " files"]) -> None:
    """Write the class number of each file as a sketch submission."""
    by_id = {file.stem: label for file, label in zip(files, labels.tolist(), strict=True)}
    _write(path, _SKETCH_HEADER, ((id_, by_id[id_]) for id_ in sketch_ids(files)))


def check_sketch(path: Path, files: Iterable[Path], *, classes: int) -> int:
    """The number of rows of a sound submission for these images.

    Raises:
      UserError: names the first wrong line and what is wrong with it.
    """
    return _check(path, _SKETCH_HEADER, sketch_ids(files), classes)


def _ood_ids(distortions: int, severities: int, images: int) -> Iterator[str]:
    for distortion, severity, image in itertools.product(range(distortions), range(1, severities + 1), range(images)):
        yield f"distortion{distortion:02}_{severity}_{image}"


def _write(path: Path, header: list[str], rows: Iterable[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _check(path: Path, header: list[str], ids: Iterable[str], classes: int) -> int:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if (first := next(rows, None)) != header:
            raise UserError(f"{path}, line 1: the header must be {','.join(header)}, not {','.join(first or [])}")
        count = 0
        for line, (row, expected) in enumerate(itertools.zip_longest(rows, ids), start=2):
            if problem := _problem(row, expected, classes):
                raise UserError(f"{path}, line {line}: {problem}")
            count += 1
    return count


def _problem(row: list[str] | None, expected: str | None, classes: int) -> str | None:
    if row is None:
        return f"the file ends, but the row of {expected} is missing"
    if expected is None:
        return f"{','.join(row)} is one row too many"
    if len(row) != 2:
        return f"a row is an id and a class number, not {','.join(row)!r}"
    id_, label = row
    if id_ != expected:
        return f"the id must be {expected}, not {id_}"
    if not (label.isascii() and label.isdigit() and int(label) < classes):
        return f"the label of {id_} must be a class number from 0 to {classes - 1}, not {label!r}"
    return None
