"""Compare finished runs: curves, first kernels, confusion matrices, parameters.

    python -m imgcls_jax.report WORKDIR… [--out DIR] [--confusion test|validation|none]

Writes DIR/report.md with a table of all runs, and the pictures that it links: the score's evolution side by side and on
one plot, and of each run the kernels of its first convolution (min-max normalised) and its confusion matrix, whose
counts are in a CSV file too. The confusion matrix takes a pass over the split, so it needs the run's data; without
--confusion it is the test split's, or the validation split's where there is no test.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from imgcls_jax import data, flags, predictions, pretrained, runtime
from imgcls_jax.console import Console, duration, percent
from imgcls_jax.errors import UserError
from imgcls_jax.report import comparison, confusion, kernels, record, tables
from imgcls_jax.report.record import RunRecord

# Canvases that are read from the split at a time.
_CHUNK = 1024


def report(workdirs: Sequence[Path], out: Path, *, split: str | None = None) -> Path:
    """Write the report below `out`; return the path of report.md.

    Args:
      workdirs: folders of runs of which an epoch or more is finished.
      out: made if missing.
      split: of the confusion matrices: "test", "validation" or "none"; None: the test split if there is one.
    """
    runs = record.read_all(workdirs)
    out.mkdir(parents=True, exist_ok=True)
    histories = {run.label: [run.history] for run in runs}
    comparison.side_by_side(histories, out / "side_by_side.png", title="score evolution")
    comparison.together(histories, out / "together.png", title="all runs")
    rows, sections = [], []
    for run in runs:
        best = pretrained.of_run(run.workdir)
        rows.append(_row(run, *best.counts))
        sections += [f"## {run.label}\n", *_kernels(run, best.params, out)]
        if split != "none":
            sections += _confusion(run, split, out)
    header = ("run", "best epoch", "validation", "test", "trainable", "parameters", "time")
    text = [
        "# Comparison\n",
        tables.markdown(header, rows),
        "Trainable: elements of the parameters that train in the best epoch.\n",
        "![score evolution](side_by_side.png)\n",
        "![all runs](together.png)\n",
        *sections,
    ]
    (out / "report.md").write_text("\n".join(text))
    return out / "report.md"


def _row(run: RunRecord, trainable: int, total: int) -> tuple[str, ...]:
    counts = f"{trainable:,}", f"{total:,}"
    if run.result is None:
        return run.label, f"unfinished after {len(run.history)}", "", "", *counts, duration(run.history[-1]["seconds"])
    scores = [percent(run.result[split]["top1"]) if run.result[split] else "" for split in ("validation", "test")]
    epoch = f"{run.result['best_epoch'] + 1} of {run.result['epochs']}"
    return run.label, epoch, *scores, *counts, duration(run.result["seconds"])


def _kernels(run: RunRecord, params: Mapping[str, np.ndarray], out: Path) -> list[str]:
    try:
        path, kernel = kernels.first_convolution(run.config.model, params)
    except UserError as error:
        return [f"{error}.\n"]
    name = f"kernels_{_file_name(run)}.png"
    kernels.picture(kernel).save(out / name)
    return [f"Kernels of `{path}`, min-max normalised:\n", f"![kernels]({name})\n"]


def _confusion(run: RunRecord, split: str | None, out: Path) -> list[str]:
    try:
        counts, class_names, used = confusion_matrix(run.workdir, split)
    except UserError as error:  # such as data that is no longer there; the rest of the report needs none
        return [f"No confusion matrix: {error}\n"]
    name = f"confusion_{_file_name(run)}"
    confusion.plot(counts, class_names, out / f"{name}.png", title=f"{run.label}, {used} split")
    confusion.write_csv(counts, class_names, out / f"{name}.csv")
    right = percent(int(counts.trace()) / int(counts.sum()))
    return [
        f"{right} of {int(counts.sum()):,} {used} images; counts in [{name}.csv]({name}.csv):\n",
        f"![confusion]({name}.png)\n",
    ]


def confusion_matrix(workdir: Path, split: str | None = None) -> tuple[Int[np.ndarray, "k k"], tuple[str, ...], str]:
    """Counts of true (rows) and predicted (columns) classes of a run's best checkpoint, each example once.

    Args:
      workdir: folder of the run.
      split: "test" or "validation"; None: test if there is one, else validation.

    Returns:
      Counts, class names, and the split.

    Raises:
      UserError: there is no checkpoint, no such split, or its data is not at hand.
    """
    config, class_names = predictions.restore(workdir)
    dataset = data.load(config.data)
    used = split or ("test" if dataset.test else "validation")
    examples = dataset.test if used == "test" else dataset.validation
    if examples is None:
        raise UserError(f"{workdir} has no {used} split")
    if used == "validation":  # test-time views are for the test
        config = dataclasses.replace(config, test_views=None)
    predictor = predictions.Predictor(config, len(class_names))
    chunks = np.array_split(np.arange(len(examples)), -(-len(examples) // _CHUNK))
    predicted = np.concatenate([predictor.labels(examples.read(rows)) for rows in chunks])
    return confusion.matrix(examples.labels, predicted, len(class_names)), class_names, used


def _file_name(run: RunRecord) -> str:
    return run.label.replace("/", "_")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    parser.add_argument("--confusion", choices=("test", "validation", "none"), help="split of the confusion matrices")
    options = parser.parse_args(arguments)
    runtime.setup()
    Console().line(str(report(options.workdirs, options.out, split=options.confusion)))


if __name__ == "__main__":
    flags.run(main)
