"""The sections of a page that are figures: all of them with intervals, classes, calibration, corruptions."""

from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import calibration, figures, per_class, scores, tasks
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.record.json_files import read_json
from imgcls_jax.report import reliability
from imgcls_jax.report.html import svg
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.reliability import Bins

_MOST_CLASSES = 300


def overall(run: Material) -> dict[str, Any]:
    """Return every figure of the split with its 95 % interval; of labels and numbers a row for each."""
    made = run.kept
    if made.task != "classes":
        if not made.is_finite:
            raise UserError("outputs are NaN or infinite")
        tuned = run.trained.card.get("thresholds") or [tasks.EVEN] * len(made.class_names)
        found = tasks.rows(made.logits, made.labels, made.class_names, tuned)
        header = list(found[0])
        cells = [[f"{x:.4g}" if isinstance(x := row[name], float) else str(x) for name in header] for row in found]
        return _figures(made, header, cells, intervals=False)
    document = run.figures
    rows = [
        [title, figures.shown(name, one["value"]), figures.interval(name, one["low"], one["high"])]
        for name, title in figures.TITLES.items()
        for one in [document["overall"][name]]
    ]
    return _figures(made, ["figure", "value", "95 % interval"], rows, intervals=True)


def _figures(made: Predictions, header: list[str], rows: list[list[str]], *, intervals: bool) -> dict[str, Any]:
    return {
        "header": [name.replace("_", " ") for name in header],
        "rows": rows,
        "split": made.split,
        "images": len(made),
        "views": made.views,
        "intervals": intervals,
    }


def classes(run: Material) -> dict[str, Any]:
    """Return a row per class; of very many classes those of the lowest recall."""
    made, document = run.predictions, run.figures
    found = [row for row in per_class.rows(made) if row.images or row.predicted]
    chosen = found
    if len(found) > _MOST_CLASSES:
        chosen = sorted(found, key=lambda row: (np.isnan(row.recall), row.recall))[:_MOST_CLASSES]
    rows = []
    for row in chosen:
        details = document["per_class"][row.class_name]
        rows.append({
            "name": row.class_name,
            "label": row.label,
            "images": row.images,
            "recall": _value(row.recall, row.recall_low, row.recall_high),
            "bar": svg.interval(row.recall_low, row.recall, row.recall_high) if row.images else "",
            "others": [_value(*(details[name][part] for part in ("value", "low", "high")))
                       for name in ("precision", "f1", "auroc", "average_precision")],
            "confused": f"{row.most_confused_with} ({row.confused_images:,})" if row.confused_images else "",
            "confused_images": row.confused_images,
        })  # fmt: skip
    return {"rows": rows, "all": len(found), "split": made.split}


def _value(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    if value is None or np.isnan(value):
        return {"sort": -1, "text": "–", "interval": ""}
    interval = "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
    return {"sort": value, "text": f"{100 * value:.1f}", "interval": interval}


def confidence(run: Material) -> dict[str, Any]:
    """Return reliability diagrams: of the probabilities as they are and, of a calibrated run, at its temperature."""
    made = run.predictions
    calibrated = (run.run.workdir / calibration.FILE).exists()
    panels = [_panel("before" if calibrated else "as predicted", made.probabilities, made.labels)]
    values: dict[str, Any] = {"panels": panels, "split": made.split, "note": "", "rows": []}
    try:
        fitted = calibration.load(run.run.workdir)
    except UserError as error:
        return values | {"note": f"{error}."}
    if fitted is None:
        return values | {"note": f"Not calibrated: `imgcls calibrate --workdir {run.run.workdir}` does it."}
    if fitted.views != made.views:
        return values | {"note": f"The calibration is for images that are seen as {fitted.views}, not as {made.views}."}
    measured = calibration.measure(fitted, made, (0.8, 0.9, 0.95, 0.99))
    panels.append(_panel(f"after, temperature {fitted.temperature:.3g}", measured.after, made.labels))
    if made.split == "validation":
        values["note"] = "The temperature was fitted on these same images, so the second diagram flatters it."
    before, after = measured.figures["log_loss"]
    errors = measured.figures["ece"]
    return values | {
        "rows": [
            ("log loss", f"{before:.4f}", f"{after:.4f}"),
            ("expected calibration error", f"{100 * errors[0]:.2f} %", f"{100 * errors[1]:.2f} %"),
        ],
        "sets": [
            (f"{100 * coverage:.0f} %", f"{100 * holds:.1f} %", f"{size:.2f}")
            for coverage, (holds, size) in measured.sets.items()
        ],
    }


def _panel(name: str, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found = reliability.bins(probabilities, labels)
    rows = [
        (f"{100 * mean:.1f} %", f"{100 * right:.1f} %", f"{images:,}")
        for mean, right, images in zip(found.confidence, found.accuracy, found.images.tolist(), strict=True)
    ]
    return {"title": f"{name}: calibration error {100 * found.error:.1f} %", "svg": _diagram(name, found), "rows": rows}


def _diagram(name: str, found: Bins) -> Markup:
    axes = svg.Axes((0, 1), (0, 1))
    width = 0.9 / scores.CALIBRATION_BINS
    most = found.images.max()
    parts = [axes.frame("confidence", "accuracy", (0, 0.25, 0.5, 0.75, 1), (0, 0.25, 0.5, 0.75, 1))]
    for center, mean, right, images in zip(
        found.centers.tolist(), found.confidence.tolist(), found.accuracy.tolist(), found.images.tolist(), strict=True
    ):
        left, top = axes.at(center - width / 2, right)
        beyond, bottom = axes.at(center + width / 2, 0)
        told = svg.tag("title", f"confidence {100 * mean:.1f} %, accuracy {100 * right:.1f} %, {images:,} images")
        faint = " faint" if images < reliability.FEW else ""
        parts.append(
            svg.tag("rect", told, class_=f"bin{faint}", x=left, y=top, width=beyond - left, height=bottom - top)
        )
        x, y = axes.at(mean, right)
        parts.append(
            svg.tag("circle", class_="dot validation", cx=x, cy=y, r=1.5 + 4.5 * float(np.sqrt(images / most)))
        )
    (x1, y1), (x2, y2) = axes.at(0, 0), axes.at(1, 1)
    parts.append(svg.tag("line", class_="mark", x1=x1, y1=y1, x2=x2, y2=y2))
    text = f"Reliability diagram, {name}: accuracy by confidence; expected calibration error {100 * found.error:.1f} %."
    return svg.drawing(*parts, text=text)


def corruptions(run: Material) -> dict[str, Any]:
    """Return the accuracies on corrupted images."""
    path = run.run.workdir / "corruptions.json"
    if not path.exists():
        raise UserError(f"not measured: `imgcls corruptions --workdir {run.run.workdir}` does it")
    document = read_json(path)
    try:
        rows = [
            {"name": name, "remark": found.get("remark", ""),
             "cells": [{"value": value, "shade": _shade(value)} for value in (*found["accuracy"], found["mean"])]}
            for name, found in document["corruptions"].items()
        ]  # fmt: skip
        return {
            "rows": rows,
            **{name: document[name] for name in ("source", "images", "of", "clean_accuracy", "mean_accuracy")},
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is damaged: `imgcls corruptions --workdir {run.run.workdir}` writes it again"
        ) from None


def _shade(value: float) -> str:
    return f"wrong shade{min(12, round(12 * (1 - value)))}"
