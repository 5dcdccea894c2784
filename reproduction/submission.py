"""Write the prediction files of two coursework competitions, and check them row by row.

    python -m reproduction.submission ood --workdir DIR --arrays FOLDER --out FILE.csv
    python -m reproduction.submission sketch --predictions FILE.csv --images FOLDER --out FILE.csv

ood classifies corrupted images with the best checkpoint of a run. FOLDER holds distortion00.npy, distortion01.npy, …,
each uint8 [5 · n, h, w, 3] with severity 1 first. The file has the header `id,label`; the id `distortion07_3_421` is
array 7 (from 0), severity 3 (from 1) and image 421 (from 0), and the label is a class number.

sketch takes the predictions that `imgcls predict --csv` wrote, and checks that there is one for every image below
FOLDER. The file has the header `Id,Category`: an image's file name without `.jpeg`, and the class number in the sorted
order of the training folders. Rows are in the order of the names.
"""

import argparse
import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from imgcls_jax.cli import flags
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import measure
from imgcls_jax.evaluation.corruptions.official import Arrays
from imgcls_jax.inference import Classifier
from imgcls_jax.xla import runtime

DISTORTIONS, SEVERITIES, IMAGES = 19, 5, 10_000
"""Of the whole out-of-distribution submission, which has 950,000 rows."""
SKETCH_CLASSES = 500

_OOD_HEADER = ["id", "label"]
_SKETCH_HEADER = ["Id", "Category"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    console = Console()
    if options.competition == "sketch":
        images = sorted(options.images.rglob("*.jpeg"))
        if not images:
            raise UserError(f"{options.images} holds no .jpeg images")
        write_sketch(options.out, images, read_predictions(options.predictions, images))
        console.line(f"{options.out}: {check_sketch(options.out, images, classes=SKETCH_CLASSES):,} rows")
        return
    arrays = Arrays(options.arrays)
    check_names(arrays.names, arrays.folder)
    runtime.setup()
    classifier = Classifier.load(options.workdir)
    labels, _ = measure.of_arrays(classifier.labels, arrays, limit=None, progress=console.line)
    write_ood(options.out, labels)
    distortions, severities, images = labels.shape
    rows = check_ood(
        options.out, classes=len(classifier.class_names), distortions=distortions, severities=severities, images=images
    )
    whole = DISTORTIONS * SEVERITIES * IMAGES
    console.line(f"{options.out}: {rows:,} rows" + (f", but a whole submission has {whole:,}" if rows != whole else ""))


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser(__doc__, config=False)
    commands = parser.add_subparsers(dest="competition", required=True, metavar="ood|sketch")
    ood = commands.add_parser("ood", help="corrupted images, classified by a run")
    ood.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    ood.add_argument("--arrays", type=Path, required=True, metavar="FOLDER", help="distortion00.npy …")
    sketch = commands.add_parser("sketch", help="predictions of `imgcls predict --csv`")
    sketch.add_argument("--predictions", type=Path, required=True, metavar="FILE.csv", help="file,label,class,…")
    sketch.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="every image to be submitted")
    for command in (ood, sketch):
        command.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="the submission to write")
    return parser


def read_predictions(path: Path, images: Sequence[Path]) -> Int[np.ndarray, " images"]:
    """Read the class number of each image from a file of `imgcls predict --csv`, in the order of `images`.

    Raises:
      UserError: there is no such file, it has other columns, or an image is missing in it.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.DictReader(file)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} has no columns file and label: write it with `imgcls predict … --csv {path}`")
        labels = {Path(row["file"]).name: int(row["label"]) for row in rows if row["label"]}
    for image in images:
        if image.name not in labels:
            raise UserError(f"{path} has no prediction of {image}, but a submission needs every image")
    return np.array([labels[image.name] for image in images])


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
    """Check every row of an out-of-distribution submission, and return the number of rows.

    Raises:
      UserError: names the first wrong line and what is wrong with it.
    """
    return _check(path, _OOD_HEADER, _ood_ids(distortions, severities, images), classes)


def sketch_ids(files: Iterable[Path]) -> list[str]:
    """Return the Ids of the images, sorted.

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
    """Check every row of a sketch submission for these images, and return the number of rows.

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


if __name__ == "__main__":
    flags.run(main)
