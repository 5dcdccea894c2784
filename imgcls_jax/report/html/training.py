"""The course of a training as charts: losses, metrics, learning rate, and what changed on the way."""

import math
from typing import Any

from markupsafe import Markup

from imgcls_jax import config as c
from imgcls_jax.display.console import clock, duration, percent
from imgcls_jax.errors import UserError
from imgcls_jax.record import checkpoint, history
from imgcls_jax.report.html import svg
from imgcls_jax.report.html.svg import Mark, Series
from imgcls_jax.report.record import RunRecord

_SHARES = ("top1", "top5", "balanced_accuracy", "macro_f1", "accuracy", "f1", "precision", "recall")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_EVALUATORS = 4


def curves(run: RunRecord) -> dict[str, Any]:
    """Return the charts of a run, the events that they mark, and the figures of every epoch as rows."""
    epochs = run.history
    names = list(dict.fromkeys(name for record in epochs for name in (record["validation"] or record["train"])))
    best = best_epoch(run)
    events = [(x, text) for x, text in changes(run.config) if x < len(epochs) + 1] + recoveries(run)
    events.sort()
    marks = [Mark(x, letter) for (x, _), letter in zip(events, _LETTERS, strict=False)]
    charts = []
    for name in ["loss", *(name for name in names if name not in ("loss", "count"))]:
        series = [_series(run, split, name) for split in ("train", "validation")] + _evaluators(run, name)
        series = [one for one in series if any(math.isfinite(y) for _, y in one.points)]
        if not series:
            continue
        ring = next((point for one in series[::-1] for point in one.points if best and point[0] == best), None)
        is_share = name in _SHARES
        charts.append({
            "title": title(name),
            "series": series,
            "svg": svg.lines(series, title=title(name), ylabel="%" if is_share else "",
                             marks=marks, ring=ring, shown=_percent if is_share else svg.short),
        })  # fmt: skip
    rate = [Series("learning rate", "rate", learning_rates(run))]
    charts.append({
        "title": "learning rate",
        "series": [],
        "svg": svg.lines(rate, title="learning rate", ylabel="", marks=marks),
    })  # fmt: skip
    return {
        "charts": charts,
        "events": [(mark.label, text) for mark, (_, text) in zip(marks, events, strict=False)],
        "best": best,
        "stopped": run.result["stopped"] if run.result else None,
        "finished": run.result is not None,
        "header": ["epoch", *_columns(run), "learning rate", "images/s", "time"],
        "rows": [_row(run, record) for record in epochs],
    }  # fmt: skip


def title(name: str) -> str:
    """Return how a metric is called."""
    return {"top1": "accuracy", "top5": "top-5 accuracy"}.get(name, name.replace("_", " "))


def best_epoch(run: RunRecord) -> int | None:
    """Return the best epoch, counted from 1; None while the run is unfinished."""
    return run.result["best_epoch"] + 1 if run.result else None


def learning_rates(run: RunRecord) -> list[svg.Point]:
    """Return the learning rate over epochs: of every recorded step, or else of the last step of each epoch."""
    steps = [record for record in history.read(run.workdir) if record["kind"] == "step"]
    per_epoch = run.history[-1]["step"] / len(run.history)
    if steps and per_epoch:
        return [(record["step"] / per_epoch, record["learning_rate"]) for record in steps]
    return [(record["epoch"] + 1.0, record["learning_rate"]) for record in run.history]


def changes(config: c.Config) -> list[tuple[float, str]]:
    """Return what changes in the course of a training by its config: where, in epochs, and a sentence.

    What holds from an epoch on begins half way between the end of the one before it and its own.
    """
    found = []
    schedule, swa = config.optim.schedule, config.optim.swa
    if schedule.warmup_epochs:
        found.append((float(schedule.warmup_epochs), f"the warm-up ends with epoch {schedule.warmup_epochs}"))
    for operation in config.augment:
        name = type(operation).__name__
        if operation.from_epoch:
            found.append((operation.from_epoch + 0.5, f"{name} begins in epoch {operation.from_epoch + 1}"))
        if operation.until_epoch:
            found.append((operation.until_epoch + 0.5, f"{name} ends before epoch {operation.until_epoch + 1}"))
    for entry in config.transfer.unfreeze:
        found.append((entry.from_epoch + 0.5, f"{entry.pattern} trains from epoch {entry.from_epoch + 1} on"))
    if swa is not None:
        found.append((swa.from_epoch + 0.5, f"weights are averaged from epoch {swa.from_epoch + 1} on"))
    return found


def recoveries(run: RunRecord) -> list[tuple[float, str]]:
    """Return where a run went back from a loss that was not finite, as its newest checkpoint says."""
    try:
        with checkpoint.of_run(run.workdir) as checkpoints:
            saved = checkpoints.newest_sound(checkpoints.run, lambda _: None)
    except UserError:  # the section on the network says so
        return []
    found = []
    for number, epoch in enumerate((saved or {}).get("recovered_epochs", []), 1):
        factor = f"× {run.config.recover.factor**number:g}" if run.config.recover else "lowered"
        found.append((epoch + 0.5, f"went back in epoch {epoch + 1}, which was not finite; learning rate {factor}"))
    return found


def together(runs: list[RunRecord]) -> list[dict[str, Any]]:
    """Return charts of the loss and the accuracy of all runs."""
    charts = []
    for name in ("loss", "top1"):
        series = []
        for number, run in enumerate(runs):
            split = "validation" if run.history[0]["validation"] else "train"
            if name in (run.history[0][split] or {}):  # type: ignore[literal-required]
                points = _series(run, split, name).points
                label = run.label if split == "validation" else f"{run.label} (train)"
                series.append(Series(label, f"run{number % 8}", points))
        if any(math.isfinite(y) for one in series for _, y in one.points):
            what = f"validation {title(name)}"
            shares = name in _SHARES
            picture = svg.lines(
                series, title=what, ylabel="%" if shares else "", shown=_percent if shares else svg.short
            )
            charts.append({"title": what, "series": series, "svg": picture})
    return charts


def swatch(style: str) -> Markup:
    """Draw a piece of a line, for a legend."""
    line = svg.tag("path", class_=f"line {style}", d="M1 5L25 5")
    return svg.tag("svg", line, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def _series(run: RunRecord, split: str, name: str) -> Series:
    factor = 100 if name in _SHARES else 1
    points = [
        (record["epoch"] + 1.0, factor * float((record[split] or {}).get(name, math.nan)))  # type: ignore[literal-required]
        for record in run.history
    ]
    return Series(split, split, points)


def _evaluators(run: RunRecord, name: str) -> list[Series]:
    factor = 100 if name in _SHARES else 1
    there = list(dict.fromkeys(key for record in run.history for key in record["evaluators"]))[:_MOST_EVALUATORS]
    return [
        Series(key, f"run{number + 2}", [
            (record["epoch"] + 1.0, factor * float(record["evaluators"][key].get(name, math.nan)))
            for record in run.history if key in record["evaluators"]
        ])
        for number, key in enumerate(there)
    ]  # fmt: skip


def _kept(run: RunRecord, split: str) -> list[str]:
    return [name for name in (run.history[0][split] or {}) if name != "count"]  # type: ignore[literal-required]


def _columns(run: RunRecord) -> list[str]:
    return [f"{split} {title(name)}" for split in ("train", "validation") for name in _kept(run, split)]


def _row(run: RunRecord, record: Any) -> list[str]:
    cells = [str(record["epoch"] + 1)]
    for split in ("train", "validation"):
        figures = record[split] or {}
        cells += [_cell(name, figures.get(name, math.nan)) for name in _kept(run, split)]
    return [*cells, f"{record['learning_rate']:.3g}", f"{record['images_per_second']:,.0f}", clock(record["seconds"])]


def _cell(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return percent(value) if name in _SHARES else f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def spent(run: RunRecord) -> str:
    """Return the time that a run has trained, as text."""
    return duration(run.result["seconds"] if run.result else run.history[-1]["seconds"])
