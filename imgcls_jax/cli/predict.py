"""Classify image files with a trained run, or with a file that `imgcls export` wrote.

IMAGES are files, folders, of which every image at any depth is taken but hidden ones, quoted patterns ('photos/*.jpg'),
or - for a list of paths on standard input, one per line. They are preprocessed exactly as the run's test images. Prints
a line for each, in the order given: its most probable class, the model's probability of it, and the file. --csv,
--jsonl and --parquet write the same as a table of file, label, class, probability and status; --top, --probabilities,
--sets and --unknown add columns. --embeddings writes the features of the images, the input of the network's head: an
.npz file of "features", float32 [images, features], and "names", the file of each row.

--calibrated, --sets and --unknown apply what `imgcls calibrate` has fitted: probabilities at its temperature (--sets
too); the set of classes that holds the right one with a probability of at least COVERAGE; and the class "unknown" for
images whose energy is below that of almost all validation images. --threshold calls those unknown whose most probable
class has a lower probability. A run of several labels per image names those that reach their thresholds (in CSV
separated by |), one of numbers those (docs/tasks.md).

A file that cannot be read as an image has a line and a row too: its status says why, where that of others is "ok". The
command then ends with status 2, after all others are classified.

Examples:
  imgcls predict --workdir runs/digits_cnn photo.jpg folder/ --csv predictions.csv
  imgcls predict --workdir runs/digits_cnn - --sets 0.95 --jsonl sets.jsonl < files.txt
  imgcls predict --model model.onnx folder/
"""

import contextlib
import csv
import glob
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls_jax.cli import flags
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError, short

if TYPE_CHECKING:
    from imgcls_jax.inference.answers import Answers, Row
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.inference.prediction import Estimate, Prediction, Unreadable
    from imgcls_jax.inference.task_answers import LabelAnswers, NumberAnswers

_INPUT = "-"  # stands for standard input


def find(paths: Sequence[Path]) -> list[Path]:
    """Return the files among the paths, and every image below the folders among them, sorted within each folder.

    A path that does not exist may be a pattern (*, ?, [, and ** for any depth), and - stands for the lines of standard
    input, which are paths.

    They are those that training takes of a folder, and folders below it that cannot be listed, as images that cannot be
    read. What is passed over is said on stderr.

    Raises:
      UserError: a path does not exist, or a folder holds no images.
    """
    from imgcls_jax.data.files import find_images

    files: list[Path] = []
    for path in _expanded(paths):
        if flags.is_folder(path):
            inside, passed = find_images(path)
            if not inside:
                raise UserError(f"{path} holds no images" + (f" (passed over: {passed})" if str(passed) else ""))
            if str(passed):
                print(f"passed over in {path}: {passed}", file=sys.stderr)
            files += [image.path for image in inside]
            files += map(Path, passed.unlisted)  # which no image can be read from, as their rows will say
        elif flags.is_file(path):
            files.append(path)
        else:
            raise UserError(f"there is no file or folder {short(str(path))[1:-1]}{_advice(str(path))}")
    return files


def _expanded(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if str(path) == _INPUT:
            yield from (Path(line) for line in sys.stdin.read().splitlines() if line.strip())
        elif _is_pattern(path) and not flags.is_file(path) and not flags.is_folder(path):
            yield from map(Path, sorted(glob.glob(str(path), recursive=True)) or [str(path)])
        else:
            yield path


def _is_pattern(path: Path) -> bool:
    return any(character in str(path) for character in "*?[")


def _advice(path: str) -> str:
    if ":/" in path:
        return ": give files of this machine, not addresses"
    return ": no file matches this pattern" if _is_pattern(Path(path)) else ""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    _check(options)
    # A wrong folder is found before anything slow begins.
    task = flags.saved_config(options.workdir, exported=True).loss.task
    _check_task(options, task)
    files = find(options.images)
    if not files:
        raise UserError("there are no images: standard input names none")

    from imgcls_jax.evaluation import calibration
    from imgcls_jax.inference import source
    from imgcls_jax.inference.answers import Answers
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.inference.task_answers import LabelAnswers, NumberAnswers
    from imgcls_jax.xla import runtime

    asked = options.calibrated or options.unknown or options.sets is not None
    with contextlib.ExitStack() as opened:
        # Opened before the work, so that a file that cannot be written is found out first.
        writers = [
            (opened.enter_context(outputs.writing(path, binary=write is _parquet)), write)
            for path, write in ((options.csv, _csv), (options.jsonl, _jsonl), (options.parquet, _parquet))
            if path
        ]
        runtime.setup()
        if flags.is_file(options.workdir):
            fitted, classifier = None, Classifier.load(options.workdir)
        else:
            trained = source.read(options.workdir)
            fitted = calibration.of_card(trained.card, options.workdir) if asked else None
            # A calibration holds for images that are seen as those that it was fitted on.
            classifier = Classifier(trained, views=fitted.views if fitted else None)
        for note in classifier.notes:
            print(f"note: {note}", file=sys.stderr)  # stdout has a line an image
        answers: Answers | LabelAnswers | NumberAnswers = Answers(
            classifier.class_names,
            fitted,
            coverage=options.sets,
            by_energy=options.unknown,
            threshold=options.threshold,
            temperature=options.calibrated or options.sets is not None,
            top=options.top,
            everything=options.probabilities,
        )
        if task == "labels":
            answers = LabelAnswers(classifier.class_names, options.probabilities)
        elif task == "numbers":
            answers = NumberAnswers(classifier.class_names)
        results: Any = (
            classifier.estimate_each(files)
            if task == "numbers"
            else classifier.predict_each(files, all_probabilities=True)
        )
        read, unreadable, rows = _answer(results, answers)
        columns = answers.columns(classifier.config.model.output_classes(len(classifier.class_names)))
        for file, write in writers:
            write(file, columns, rows)
    if options.embeddings and read:
        _write_embeddings(options.embeddings, classifier, read)
    if unreadable:
        others = ", all others are classified" if read else ""
        raise UserError(
            f"{len(unreadable)} of {len(files)} images cannot be read{others}; the first is "
            f"{unreadable[0].image} ({unreadable[0].reason})"
        )


def _parser() -> flags.Parser:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="image files, folders, quoted patterns, or -"
    )
    parser.add_argument(
        "--workdir", "--model", type=Path, required=True, help="the run's folder, or an exported file of it"
    )
    parser.add_argument(
        "--csv", type=flags.result(".csv", ".tsv", ".txt"), metavar="FILE", help="write a row for each image"
    )
    parser.add_argument(
        "--jsonl", type=flags.result(".jsonl"), metavar="FILE", help="write a JSON object per line for each image"
    )
    parser.add_argument(
        "--parquet", type=flags.result(".parquet"), metavar="FILE", help="write a Parquet table; needs pyarrow"
    )
    parser.add_argument("--top", type=flags.whole(1), default=1, metavar="K", help="name the K most probable classes")
    parser.add_argument("--probabilities", action="store_true", help="a column for the probability of every class")
    parser.add_argument("--calibrated", action="store_true", help="probabilities at the fitted temperature")
    parser.add_argument("--sets", type=flags.number(0), metavar="COVERAGE", help="a set of classes for each image")
    parser.add_argument("--unknown", action="store_true", help='images of a low energy are "unknown"')
    parser.add_argument(
        "--threshold",
        type=flags.number(0),
        default=0.0,
        metavar="P",
        help='images whose class has a probability below P are "unknown"',
    )
    parser.add_argument(
        "--embeddings", type=flags.result(".npz"), metavar="FILE.npz", help="write the images' features"
    )
    return parser


def _check(options: Any) -> None:
    if flags.is_file(options.workdir):
        if options.calibrated or options.unknown or options.sets is not None:
            raise UserError(
                "--calibrated, --sets and --unknown need a run's folder, where `imgcls calibrate` writes: a file has "
                "calibrated probabilities if it was exported with --calibrated"
            )
        if options.embeddings and options.workdir.suffix in (".onnx", ".stablehlo"):
            raise UserError(f"--embeddings: no features come out of {options.workdir}; give the run's folder")
    if options.embeddings and options.embeddings.suffix != ".npz":
        raise UserError(f"--embeddings {options.embeddings}: the file is an .npz archive, so its name must end in .npz")
    if options.threshold > 1:
        raise UserError(f"--threshold is {options.threshold:g}, but must be a probability from 0 to 1")
    if options.parquet:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                "--parquet needs pyarrow: pip install 'imgcls_jax[parquet]', or write --csv or --jsonl"
            ) from None


def _check_task(options: Any, task: str) -> None:
    """Refuse what is for one class per image where the run predicts labels or numbers."""
    if task == "classes":
        return
    named = {
        "--sets": options.sets is not None,
        "--unknown": options.unknown,
        "--calibrated": options.calibrated,
        "--threshold": options.threshold > 0,
        "--top": options.top > 1,
        "--probabilities": options.probabilities and task == "numbers",
    }
    for flag in (flag for flag, given in named.items() if given):
        instead = "thresholds.json says from which probability on each label is named" if task == "labels" else ""
        raise UserError(
            f"{flag} is for one class per image, and this run predicts {task}: leave it out"
            + (f" ({instead})" if instead else "")
        )


def _answer(
    results: "Iterable[Prediction | Estimate | Unreadable]", answers: "Answers | LabelAnswers | NumberAnswers"
) -> "tuple[list[str], list[Unreadable], list[Row]]":
    """Print a line for each result; return the files that were read, those that were not, and a row for each."""
    from imgcls_jax.display.console import Console
    from imgcls_jax.inference.prediction import Unreadable

    console = Console()
    read: list[str] = []
    unreadable: list[Unreadable] = []
    rows: list[Row] = []
    for result in results:
        row = answers.row(result)  # type: ignore[arg-type]
        rows.append(row)
        if isinstance(result, Unreadable):
            unreadable.append(result)
            console.line(f"unreadable: {result.image}: {result.reason}")
        else:
            read.append(row["file"])
            console.line(answers.line(row))
    return read, unreadable, rows


def _csv(file: Any, columns: Sequence[str], rows: "Sequence[Row]") -> None:
    """Probabilities have six decimals; the classes of a set are separated by |."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "|".join(value) if isinstance(value, list) else value


def _jsonl(file: Any, columns: Sequence[str], rows: "Sequence[Row]") -> None:
    for row in rows:
        file.write(json.dumps({column: row.get(column) for column in columns}, ensure_ascii=False) + "\n")


def _parquet(file: Any, columns: Sequence[str], rows: "Sequence[Row]") -> None:
    import pyarrow
    from pyarrow import parquet

    arrays = [_column(column, [row.get(column) for row in rows], pyarrow) for column in columns]
    parquet.write_table(pyarrow.table(arrays, names=list(columns)), file)


def _column(name: str, values: list[Any], pyarrow: Any) -> Any:
    """Types do not depend on the values, of which all may be missing."""
    if name == "label":
        kind = pyarrow.int64()
    elif name in ("set", "labels"):
        kind = pyarrow.list_(pyarrow.string())
    elif name in ("file", "status", "class") or name.startswith("class_"):
        kind = pyarrow.string()
        values = [value and value.encode("utf-8", "backslashreplace").decode() for value in values]
    else:
        kind = pyarrow.float64()
    return pyarrow.array(values, type=kind)


def _write_embeddings(path: Path, classifier: "Classifier", names: list[str]) -> None:
    import numpy as np

    with outputs.writing(path, binary=True) as file:
        np.savez(file, features=classifier.features(names), names=np.array(names))
