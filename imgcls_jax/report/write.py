"""Write a report on several runs: a table, their curves, first kernels and confusion matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.disk import outputs
from imgcls_jax.display import tables
from imgcls_jax.display.console import duration, percent
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import classes, figures, paired, tasks
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.evaluation.paired import Comparison
from imgcls_jax.inference import restore
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.report import comparison, confusion, kernels, record
from imgcls_jax.report.record import RunRecord

# Canvases that are read from the split at a time.
_CHUNK = 1024


def report(workdirs: Sequence[Path], out: Path, *, split: str | None = None) -> Path:
    """Write a report on runs into a folder; return the path of its report.md.

    Args:
      workdirs: folders of runs of which at least one epoch is finished.
      out: the folder of the report; made if missing.
      split: split of the confusion matrices: "test", "validation" or "none"; None: the test split if there is one.

    Raises:
      UserError: a folder holds no run, or one without a finished epoch.
    """
    runs = record.read_all(workdirs)
    for run in runs:
        tasks.need_classes(run.config.loss.task, f"the report on {run.workdir}")
    outputs.make_folder(out)
    histories = {run.label: [run.history] for run in runs}
    comparison.side_by_side(histories, out / "side_by_side.png", title="accuracy")
    comparison.together(histories, out / "together.png", title="all runs")
    rows, sections = [], []
    for run in runs:
        best = restore.of_run(run.workdir)
        rows.append(_row(run, best.num_trained, best.num_params))
        sections += [f"## {run.label}\n", *_kernels(run, best.params, out)]
        if split != "none":
            sections += _confusion(run, best, split, out)
    header = ("run", "best epoch", "validation", "test", "trainable", "parameters", "time")
    text = [
        "# Comparison\n",
        tables.markdown(header, rows),
        "Trainable: number of parameter elements that train in the best epoch.\n",
        "![accuracy of each run](side_by_side.png)\n",
        "![all runs](together.png)\n",
        *(_differences(runs, split) if split != "none" else []),
        *sections,
    ]
    outputs.write_text(out / "report.md", "\n".join(text))
    return out / "report.md"


def compared(
    runs: Sequence[RunRecord], split: str | None = None
) -> tuple[str, list[tuple[str, Comparison | UserError, int]]]:
    """Compare each further run with the first one on the images that both have predicted.

    Args:
      runs: at least one.
      split: "test" or "validation"; None: that of which the first run has predictions, the test split before the other.

    Returns:
      The split, and of each further run its label, what was found or why nothing (such as runs on other data), and the
      number of images.
    """
    used = split or next(
        (name for name in ("test", "validation") if keep.path_of(runs[0].workdir, name).exists()), "test"
    )
    found: list[tuple[str, Comparison | UserError, int]] = []
    for other in runs[1:]:
        try:
            pair = [keep.load(keep.path_of(run.workdir, used)) for run in (runs[0], other)]
            found.append((other.label, paired.compare(*pair), len(pair[0])))
        except UserError as error:
            found.append((other.label, error, 0))
    return used, found


def _differences(runs: Sequence[RunRecord], split: str | None) -> list[str]:
    """How each further run differs from the first one on the images that both have predicted; nothing for one run."""
    if len(runs) < 2:
        return []
    used, pairs = compared(runs, split)
    first = runs[0].label
    text = [f"## Differences on the {used} images\n"]
    for other, found, images in pairs:
        if isinstance(found, UserError):
            text.append(f"No difference between {first} and {other}: {found}\n")
            continue
        text += [
            f"{other} minus {first}, {images:,} images:\n",
            tables.markdown(("figure", "difference", "95 % interval"), figures.differences(found)),
            f"{found.only_second:,} images are right in {other} alone and {found.only_first:,} in {first} "
            f"alone: p = {found.p_value:.3g} by McNemar's exact test.\n",
        ]
    text.append(
        "Paired bootstrap over images: what other images of the same kind would show for these two networks. Another "
        "seed gives another network: `imgcls ablate` repeats runs.\n"
    )
    return text


def _row(run: RunRecord, trainable: int, total: int) -> tuple[str, ...]:
    counts = f"{trainable:,}", f"{total:,}"
    if run.result is None:
        return run.label, f"unfinished after {len(run.history)}", "", "", *counts, duration(run.history[-1]["seconds"])
    splits = (run.result["validation"], run.result["test"])
    scores = [percent(split["top1"]) if split else "" for split in splits]
    epoch = f"{run.result['best_epoch'] + 1} of {run.result['epochs']}"
    return run.label, epoch, *scores, *counts, duration(run.result["seconds"])


def _kernels(run: RunRecord, params: Mapping[str, np.ndarray], out: Path) -> list[str]:
    try:
        path, kernel = kernels.first_convolution(run.config.model, params)
    except UserError as error:
        return [f"{error}.\n"]
    name = f"kernels_{_file_name(run)}.png"
    with outputs.writing(out / name, binary=True) as file:
        kernels.picture(kernel).save(file, "PNG")
    return [f"Kernels of `{path}`, min-max normalized:\n", f"![kernels]({name})\n"]


def _confusion(run: RunRecord, trained: TrainedModel, split: str | None, out: Path) -> list[str]:
    try:
        counts, class_names, used, notes = confusion_matrix(trained, split)
    except UserError as error:  # such as data that is no longer there; the rest of the report needs none
        return [f"No confusion matrix: {error}\n"]
    name = f"confusion_{_file_name(run)}"
    confusion.plot(counts, class_names, out / f"{name}.png", title=f"{run.label}, {used} split")
    confusion.write_csv(counts, class_names, out / f"{name}.csv")
    right = percent(int(counts.trace()) / int(counts.sum()))
    return [
        *(f"Note: {note}.\n" for note in notes),
        f"{right} of {int(counts.sum()):,} {used} images; counts in [{name}.csv]({name}.csv):\n",
        f"![confusion]({name}.png)\n",
    ]


def confusion_matrix(
    trained: TrainedModel, split: str | None = None
) -> tuple[Int[np.ndarray, "k columns"], tuple[str, ...], str, list[str]]:
    """Count the true (rows) and predicted (columns) classes of a trained model, each example once.

    Args:
      trained: the model; its config names the data.
      split: "test" or "validation"; None: the test split if there is one, else the validation split.

    Returns:
      The counts, the class names, the split that was used, and sentences on what the counts do not tell.

    Raises:
      UserError: there is no such split, or its data are not there.
    """
    dataset = classes.matched(load_data(trained.config.data), trained.class_names)
    used = split or ("test" if dataset.test else "validation")
    examples = dataset.test if used == "test" else dataset.validation
    if examples is None:
        raise UserError(f"{trained.config.name} has no {used} split")
    # Test-time views are for the test alone.
    classifier = Classifier(trained, views="center" if used == "validation" else None)
    chunks = np.array_split(np.arange(len(examples)), -(-len(examples) // _CHUNK))
    predicted = np.concatenate([classifier.labels(examples.read(rows)) for rows in chunks])
    counts = confusion.matrix(examples.labels, predicted, len(trained.class_names))
    held_out = used == "validation" and trained.config.data.validation_share > 0
    notes = classes.notes(dataset, trained.card["split_hash"], trained.trained_on, held_out=held_out)
    return counts, trained.class_names, used, notes


def _file_name(run: RunRecord) -> str:
    return run.label.replace("/", "_")
