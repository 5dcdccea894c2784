"""Evaluate a trained run, or weights from elsewhere, exactly as training would.

With --workdir alone: the best checkpoint of a run, with the run's own config, of which --config.KEY=VALUE changes
settings. With --config and --weights: a torch or safetensors file, or a published checkpoint, with the data, the
preprocessing and the model of a config. Prints the metrics, each with its bootstrap 95 % interval over images, and the
most confused pairs of classes. Writes DIR/evaluation.json (with --weights, DIR/result.json where --workdir names a
folder) and DIR/predictions_SPLIT.npz, which holds the outputs, the label and the file name of every image; what each
figure is, and what the file holds, is in docs/figures.md.

Without --views the validation images are seen at their center and the test images as `test_views` says, as at the end
of training; with it, both are seen in that way: "center", "flip", "flip_shift", "five_crop" or "ten_crop".

--model FILE is a file that `imgcls export` wrote of a run, whose data must be there; its figures are those of the file,
at its precision, views and temperature, and are only printed.

Examples:
  imgcls evaluate --workdir runs/digits_cnn
  imgcls evaluate --workdir runs/digits_cnn --config.data.source.path=photos
  imgcls evaluate --model runs/digits_cnn/model.onnx
  imgcls evaluate --config configs/imagenette_r18.py --weights torchvision/resnet18.IMAGENET1K_V1
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.evaluation.predictions import Predictions
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.record.documents import Evaluation


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument(
        "--workdir",
        "--model",
        type=Path,
        help="a run's folder or exported file; with --weights, where result.json goes",
    )
    parser.add_argument("--weights", help="torch or safetensors file, or a published name (docs/models.md)")
    parser.add_argument("--views", choices=flags.VIEWS, metavar="KIND", help="average several views of each image")
    options = parser.parse_args(arguments)
    subject = flags.subject_of(options, exported=True)
    if subject.run is None and options.workdir and flags.is_file(options.workdir / "config.json"):
        raise UserError(
            f"--workdir {options.workdir} is the folder of a run, whose result.json these figures would overwrite: "
            "give another folder for them"
        )

    from imgcls_jax.display.console import Console
    from imgcls_jax.display.tables import plain
    from imgcls_jax.evaluation import figures
    from imgcls_jax.evaluation import predictions as keep
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.record import strict
    from imgcls_jax.record.json_files import write_json
    from imgcls_jax.training import summary
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    classifier = Classifier.load(subject.source, subject.config, views=options.views)
    for note in classifier.notes:
        console.table("note", {"": note})
    with console.wait("evaluating"):
        result, made = classifier.evaluate_images(views=options.views)
    with console.wait("computing the intervals"):
        details = {
            name: figures.compute(predictions)
            for name, predictions in made.items()
            if predictions.is_finite and predictions.task == "classes"
        }
        tables = {name: _rows(predictions, classifier) for name, predictions in made.items()}
    rows = {}
    for split, values in (("validation", result["validation"]), ("test", result["test"])):
        if values:
            rows[_title(split, result)] = summary.metrics(values)
    console.table("evaluation", rows)
    for split, found in details.items():
        console.section(f"{_title(split, result)}: {found['images']:,} images", figures.table(found))
        confused = [f"{p['true']} as {p['predicted']} ({p['images']})" for p in found["most_confused"]]
        console.table("most confused", {"": ", ".join(confused) or "no image is predicted wrong"})
    for split, rows_of_task in tables.items():
        if rows_of_task:
            cells = [[_cell(value) for value in row.values()] for row in rows_of_task]
            text = plain(list(rows_of_task[0]), cells, right=range(1, len(cells[0])), indent="  ")
            console.section(f"{_title(split, result)}: {len(made[split]):,} images", text)
    for split, predictions in made.items():
        if not predictions.is_finite:
            console.table("note", {"": f"the {split} split has no further figures: outputs are NaN or infinite"})
    for note in result.get("notes", []):
        console.line(f"note: {note}")
    if options.workdir and not flags.is_file(options.workdir):
        try:
            options.workdir.mkdir(parents=True, exist_ok=True)
            document = {
                **result,
                "figures": details | {name: strict.encode(found) for name, found in tables.items() if found},
            }
            write_json(options.workdir / ("evaluation.json" if subject.run else "result.json"), document)
            for name, predictions in made.items():
                keep.save(predictions, keep.path_of(options.workdir, name))
        except (OSError, UserError) as error:  # the figures are shown, as those of a run that may only be read
            raise UserError(f"the figures above are not written to {options.workdir}: {error}") from error


def _rows(made: "Predictions", classifier: "Classifier") -> "list[dict[str, Any]]":
    """A row for each label or number; of classes, or where an output is not finite, none."""
    from imgcls_jax.evaluation import tasks

    if made.task == "classes" or not made.is_finite:
        return []
    return tasks.rows(made.logits, made.labels, made.class_names, classifier.thresholds)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _title(split: str, result: "Evaluation") -> str:
    view = result["views"][split]
    return split if view == "center" else f"{split}, {view} averaged"
