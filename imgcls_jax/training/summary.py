"""The words and tables around a run: what will be trained, how an epoch went, what came out.

Everything here returns text; `display.console` prints it.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.disk import outputs
from imgcls_jax.display import tables
from imgcls_jax.display.console import Console, Speed, clock, duration, percent, size
from imgcls_jax.evaluation import per_class, tasks
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.parallel import transfer
from imgcls_jax.record.documents import EpochRecord, EvaluationRecord, Result
from imgcls_jax.training import checkup
from imgcls_jax.training.best import figure
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.progress import StepMetrics
from imgcls_jax.training.state import TrainState
from imgcls_jax.weights.plan import Plan, Row

# Rows that the table of layers has at most before lists of layers, such as blocks, become one row.
_MOST_LAYERS = 12
_PER = {"classes": "per class", "labels": "per label", "numbers": "with each number"}
# Share of the time spent waiting for data from which on it is worth telling.
_WAITING = 0.1


# ---- before training ------------------------------------------------------------------------------------------------


def start(
    console: Console, run: Experiment, train_state: TrainState, step: jax.stages.Compiled | None, workdir: Path
) -> None:
    """Print data, layers, and how the run will go; write every parameter to WORKDIR/parameters.txt."""
    if jax.process_index() == 0:
        outputs.write_text(workdir / "parameters.txt", run.plan.table() + "\n")
    console.section("data", splits(run.dataset, width=console.width))
    console.section("layers", layers(run.plan))
    console.table("run", devices(run, train_state, step) | {"files": f"{workdir}/"})
    tight = checkup.before_first_step(run, step) if step else []
    for note in [*run.notes, *tight]:
        console.table("note", {"": note})


def splits(dataset: data.Dataset, *, width: int) -> str:
    """Return the table of the data: each split with its images, and the images per class."""
    names, task = dataset.class_names, tasks.of_labels(dataset.train.labels)
    counts = [split.class_counts(len(names)) for split in dataset.splits]
    listed = [", ".join(f"{name} {n}" for name, n in zip(names, row, strict=True)) for row in counts]
    ranges = [f"{row.min():,} to {row.max():,}" if row.min() < row.max() else f"{row.min():,}" for row in counts]
    fits = max(map(len, listed)) <= width - 30
    rows = [
        (split.name, f"{len(split):,}", per_class)
        for split, per_class in zip(dataset.splits, listed if fits else ranges, strict=True)
    ]
    text = tables.plain(("split", "images", f"{_PER[task]} ({len(names)} {task})"), rows, right=[1], indent="  ")
    if dataset.bad:
        text += f"\n  {len(dataset.bad)} unreadable images are set aside, see bad_images.csv"
    return "\n".join([text, *(tables.pairs({"note": note}, width=width) for note in dataset.notes)])


def layers(plan: Plan) -> str:
    """Return the table of the parameters by layer: their number, how many of them train at first, where they come from.

    A list of layers, such as a transformer's blocks, is one row where each by itself would make the table long.
    """
    groups = _by_layer(plan.rows, depth=2)
    if len(groups) > _MOST_LAYERS:
        groups = _by_layer(plan.rows, depth=1)
    scaled = any(row.learning_rate_scale != 1 for row in plan.rows)
    rows = [(name, *_figures(group, scaled)) for name, group in groups.items()]
    rows.append(("all", *_figures(plan.rows, scaled)))
    header = ["layer", "parameters", "trained", "source", *(["learning rate ×"] if scaled else [])]
    lines = [tables.plain(header, rows, right=[1, 2], indent="  ")]
    for epoch in plan.changes:
        lines.append(f"  from epoch {epoch + 1} on {plan.count(epoch)[0]:,} are trained")
    return "\n".join(lines)


def _by_layer(rows: Sequence[Row], *, depth: int) -> dict[str, list[Row]]:
    """Rows by the beginning of their path: its first name and, with depth 2, the number that follows it."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        first, *rest = row.path.split(".")
        numbered = depth == 2 and rest and rest[0].isdigit()
        groups.setdefault(f"{first}.{rest[0]}" if numbered else first, []).append(row)
    return groups


def _figures(rows: Sequence[Row], scaled: bool) -> tuple[str, ...]:
    trained = sum(row.size for row in rows if row.trains(0))
    cells = f"{sum(row.size for row in rows):,}", f"{trained:,}", ", ".join(dict.fromkeys(row.source for row in rows))
    if not scaled:
        return cells
    scales = sorted({row.learning_rate_scale for row in rows})
    return *cells, f"{scales[0]:.3g}" + (f" to {scales[-1]:.3g}" if scales[1:] else "")


def devices(run: Experiment, train_state: TrainState, step: jax.stages.Compiled | None) -> dict[str, str]:
    """Return how the run will go, by name: devices, precision, steps, memory."""
    used = list(run.mesh.devices.flat)
    kind = used[0].device_kind
    platform = "" if kind.lower() == used[0].platform else f" ({used[0].platform})"
    rows = {
        "devices": f"{len(used)} × {kind}{platform}, {run.config.precision}{', oneDNN' if run.uses_onednn else ''}",
        "steps": _steps(run),
        "images": "all on the device" if run.resident else f"streamed from the host; {run.dataset.train.storage}",
    }
    decayed = run.decayed()
    if any(decayed.values()):
        rows["weight decay"] = f"on {sum(decayed.values())} of {len(decayed)} trained tensors"
    analysis = step.memory_analysis() if step else None
    if analysis is not None:
        need = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
        rows["memory"] = (
            f"about {size(need)} of {size(transfer.device_memory(run.mesh))} per device (parameters "
            f"{size(_bytes(train_state.params))}, optimizer {size(_bytes(train_state.opt_state))}, activations "
            f"{size(analysis.temp_size_in_bytes)})"
        )
    return rows


def _steps(run: Experiment) -> str:
    batch, total = run.config.batch_size, len(run.dataset.train)
    text = f"{run.steps_per_epoch:,} per epoch, of {batch:,} images; {run.config.epochs} epochs"
    left = total - run.steps_per_epoch * batch
    return f"{text}; {left:,} of {total:,} images, others each time, fill no batch and are left out" if left else text


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


# ---- during training ------------------------------------------------------------------------------------------------


def progress(run: Experiment, metrics: StepMetrics, speed: Speed) -> str:
    """Return the figures beside the progress bar."""
    now, epoch, step = metrics.metrics.result(), metrics.epoch, metrics.step_in_epoch
    rate = speed.images_per_second(step)
    left = ((run.config.epochs - epoch) * run.steps_per_epoch - step) * run.config.batch_size / max(rate, 1e-9)
    right = f" acc {100 * now['top1']:.1f} %" if "top1" in now else ""
    text = f"loss {now['loss']:.3f}{right} {rate:,.0f} img/s {clock(left)} left"
    waited = speed.share(run.training.waited)
    return text if run.resident or waited < _WAITING else f"{text}, {waited:.0%} waiting for data"


def evaluation(record: EvaluationRecord) -> str:
    """Return the figures of an evaluation inside an epoch in one line."""
    text = f"step {record['step']:,}"
    for name, figures in {"validation": record["validation"], **record["evaluators"]}.items():
        if figures:
            first = _first(figures)
            right = f"acc {percent(figures['top1'])}" if first == "top1" else f"{first} {figures[first]:.4g}"
            text += f"  {name} loss {_figure(figures['loss'])} {right}"
    return text


class EpochTable:
    """The table of the epochs, a row at a time, at most 79 characters wide."""

    def __init__(self, config: c.Config, *, validated: bool):
        """
        Args:
          config: the experiment.
          validated: whether there are validation images.
        """
        self._epochs, self._validated = config.epochs, validated
        metric = config.best.metric
        self._counted = config.loss.task == "classes"  # only then training has an accuracy
        # The loss has a column of its own.
        self._metric = _first(tasks.DIRECTIONS[config.loss.task]) if metric == "loss" else metric

    def header(self) -> str:
        """Return the names of the columns."""
        own = self._metric if "/" in self._metric else f"val {self._metric}"
        score = "val acc" if self._metric == "top1" else own[:8]
        validation = ("val loss", score) if self._validated else ()
        return self._line(("epoch", "loss", *(("acc",) if self._counted else ()), *validation, "lr", "img/s", "time"))

    def row(self, record: EpochRecord, *, best: bool) -> str:
        """Return the figures of an epoch; `best` marks it by a star as the best one so far."""
        train, validation = record["train"], record["validation"]
        number = str(record["epoch"] + 1)
        cells = [
            f"{number}/{self._epochs}" if self._epochs < 1000 else number,
            _figure(train["loss"]),
            *([f"{100 * train['top1']:.2f} %"] if self._counted else []),
        ]
        if self._validated and validation:
            value = figure(record, self._metric)
            score = f"{100 * value:.2f} %" if self._metric.rpartition("/")[2].startswith("top") else f"{value:.4g}"
            cells += [_figure(validation["loss"]), score]
        cells += [
            f"{record['learning_rate']:.1e}",
            f"{record['images_per_second']:,.0f}",
            clock(record["seconds"]),
        ]
        line = self._line(cells) + (" *" if best else "")
        if record.get("skipped_steps"):
            line += f"\n  {record['skipped_steps']} steps skipped so far, loss scale {record['loss_scale']:g}"
        return line

    def _line(self, cells: Sequence[str]) -> str:
        widths = (7, 8, *((8,) if self._counted else ()), *((8, 8) if self._validated else ()), 7, 8, 7)
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _first(figures: Mapping[str, Any]) -> str:
    """The name of the figure that stands first beside the loss."""
    return next(name for name in figures if name not in ("loss", "count"))


def _figure(value: int | float) -> str:
    """A loss in at most 8 characters."""
    return f"{value:.4f}" if value < 1000 else f"{value:.2e}"


# ---- after training -------------------------------------------------------------------------------------------------


def metrics(figures: Mapping[str, Any]) -> str:
    """Return the metrics of a split in words; top-5 only where it says something, which it does not at five classes."""
    own = [name for name in figures if name not in ("loss", "top1", "top5", "count", "views")]
    values = "".join(f", {name} {figures[name]:.4g}" for name in own)
    if "top1" not in figures:
        return f"loss {figures['loss']:.4f}{values} ({figures['count']:,} images)"
    top5 = f", top-5 {percent(figures['top5'])}" if figures["top5"] < 1 else ""
    return f"top-1 {percent(figures['top1'])}{top5}, loss {figures['loss']:.4f}{values} ({figures['count']:,} images)"


def result_rows(result: Mapping[str, Any], workdir: Path) -> dict[str, str]:
    """Return the final figures by name, and where the files are."""
    rows = {"best epoch": f"{result['best_epoch'] + 1} of {result['epochs']}"}
    rows |= {split: metrics(result[split]) for split in ("validation", "test") if result[split]}
    rows["time"] = duration(result["seconds"])
    rows["files"] = f"{workdir}/: result.json, metrics.jsonl, curves.png, parameters.txt, checkpoints/"
    return rows


def weakest_classes(made: Mapping[str, Predictions]) -> dict[str, str]:
    """Return a row of the five classes that are recognized worst, of the validation images if there are any."""
    first = next((split for split in made.values() if split.is_finite), None)
    if first is None:
        return {}
    if first.task != "classes":
        return {}
    weak = per_class.weakest(per_class.rows(first))
    listed = ", ".join(f"{row.class_name} {percent(row.recall)} of {row.images:,}" for row in weak)
    return {"weakest classes": f"{first.split} images: {listed or 'every image is right'}"}


_DRAWN = {
    "classes": ", confusion.png, mistakes.png, per_class.csv",
    "labels": ", per_label.csv, thresholds.json",
    "numbers": ", per_number.csv, predicted.png",
}


def finish(console: Console, result: Result, workdir: Path, made: Mapping[str, Predictions]) -> None:
    """Print the final figures with the weakest classes, and what to do with the run.

    Args:
      made: what the best epoch predicts, by split; may be empty.
    """
    rows = result_rows(result, workdir) | weakest_classes(made)
    drawn = {split.task: _DRAWN[split.task] for split in made.values()}
    rows["files"] = rows.pop("files") + "".join(drawn.values())
    console.table("result", rows)
    folder = shlex.quote(str(workdir))
    report = f"\n  imgcls report {folder}" if "top1" in result["history"][-1]["train"] else ""
    console.command("next", f"imgcls predict --workdir {folder} IMAGES{report}")
