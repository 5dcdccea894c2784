"""Classify image files with a trained run.

    python -m imgcls_jax.predict --workdir DIR IMAGES… [--csv FILE] [--submission FILE]

IMAGES are files, or folders, of which every image at any depth is taken. They are preprocessed exactly as the run's
test images. Prints a line for each: its most probable class, the model's probability of it, and the file. --csv writes
the same with the header file,label,class,probability; --submission writes Id,Category: the file names without .jpeg,
and class numbers.

Files that cannot be read as images are named and left out; with --submission they are an error.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgcls_jax import flags, predictions, runtime
from imgcls_jax.console import Console, percent
from imgcls_jax.data.decode import UnreadableImageError
from imgcls_jax.data.folder import SUFFIXES
from imgcls_jax.errors import UserError
from imgcls_jax.evaluate import submission
from imgcls_jax.predictions import Predictor

_CHUNK = 256  # images whose canvases are held at a time


@dataclass(frozen=True)
class Prediction:
    """What the model makes of one file."""

    file: Path
    label: int
    """The most probable class."""
    probability: float
    """The model's, of that class."""


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be read as an image."""

    file: Path
    reason: str


def predict(predictor: Predictor, images: Sequence[Path]) -> Iterator[Prediction | Unreadable]:
    """One result for each file, in order."""
    for start in range(0, len(images), _CHUNK):
        canvases: dict[Path, np.ndarray] = {}
        results: dict[Path, Prediction | Unreadable] = {}
        for file in images[start : start + _CHUNK]:
            try:
                canvases[file] = predictor.canvas(file)
            except UnreadableImageError as error:
                results[file] = Unreadable(file, str(error))
        if canvases:
            shares = predictor.probabilities(np.stack([*canvases.values()]))
            for file, share in zip(canvases, shares, strict=True):
                results[file] = Prediction(file, int(share.argmax()), float(share.max()))
        yield from (results[file] for file in images[start : start + _CHUNK])


def find(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and every image below the folders among them, sorted within each folder.

    Raises:
      UserError: a path does not exist, or a folder holds no images.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise UserError(f"{path} holds no images")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"there is no file or folder {path}")
    return list(dict.fromkeys(files))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="image files, or folders of them")
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write file,label,class,probability")
    parser.add_argument("--submission", type=Path, metavar="FILE", help="write Id,Category")
    options = parser.parse_args(arguments)
    files = find(options.images)
    if options.submission:
        submission.sketch_ids(files)  # a wrong name is found before the time is spent
    runtime.setup()
    config, class_names = predictions.restore(options.workdir)
    predictor = Predictor(config, len(class_names))
    console = Console()
    made: list[Prediction] = []
    for result in predict(predictor, files):
        if isinstance(result, Unreadable):
            if options.submission:
                raise UserError(f"{result.file} cannot be read ({result.reason}), but a submission needs every image")
            console.line(f"unreadable: {result.file}: {result.reason}")
        else:
            made.append(result)
            console.line(f"{_name(result, class_names)}  {percent(result.probability)}  {result.file}")
    if options.csv:
        _write(options.csv, made, class_names)
    if options.submission:
        submission.write_sketch(options.submission, files, np.array([p.label for p in made]))
        rows = submission.check_sketch(options.submission, files, classes=len(class_names))
        console.line(f"{options.submission}: {rows:,} rows")


def _name(prediction: Prediction, class_names: Sequence[str]) -> str:
    """The class's name; a model that keeps more outputs than there are classes may choose one without."""
    return class_names[prediction.label] if prediction.label < len(class_names) else f"output {prediction.label}"


def _write(path: Path, made: Sequence[Prediction], class_names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "class", "probability"])
        writer.writerows((p.file, p.label, _name(p, class_names), f"{p.probability:.6f}") for p in made)


if __name__ == "__main__":
    flags.run(main)
