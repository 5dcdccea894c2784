"""Write what a run's best epoch predicts where each image has several labels, or numbers to predict.

per_label.csv    a row per label: images, threshold, precision, recall, F1, average precision
per_number.csv   a row per number: mean absolute error, root mean squared error, R²
predicted.png    each number's predicted value against its true one
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.disk import outputs
from imgcls_jax.display import figures
from imgcls_jax.evaluation import tasks
from imgcls_jax.evaluation.predictions import Predictions

# Panels of predicted.png, and images that each shows at most.
_PANELS, _SHOWN = 6, 5000


def write(workdir: Path, made: Predictions, thresholds: Sequence[float] | None, *, title: str) -> None:
    """Write the table of a split, and of numbers the picture, into a work directory.

    Args:
      workdir: folder of the run.
      made: predictions whose outputs are finite.
      thresholds: of each label; None: 0.5.
      title: of the picture.

    Raises:
      UserError: a file cannot be written.
    """
    names = made.class_names
    rows = tasks.rows(made.logits, made.labels, names, thresholds or [tasks.EVEN] * len(names))
    write_table(rows, workdir / ("per_label.csv" if made.task == "labels" else "per_number.csv"))
    if made.task == "labels":
        return
    plot(made, workdir / "predicted.png", title=f"{title}, {made.split} images")


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a CSV file with a line per row; a figure that does not exist is empty."""
    outputs.write_csv(path, rows[0], ([_cell(value) for value in row.values()] for row in rows))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def plot(made: Predictions, path: Path, *, title: str) -> None:
    """Draw each number's predicted value against its true one, and the line where both are the same."""
    rows = tasks.of_numbers(made.logits, made.labels, made.class_names)[:_PANELS]
    figure = figures.figure(4.6 * len(rows), 4.6)
    shown = np.arange(min(len(made), _SHOWN)) * len(made) // min(len(made), _SHOWN)
    for axes, row, true, value in zip(
        figure.subplots(1, len(rows), squeeze=False)[0], rows, made.labels.T, made.logits.T, strict=False
    ):
        axes.scatter(true[shown], value[shown], s=8, alpha=0.5, linewidths=0)
        ends = [float(min(true.min(), value.min())), float(max(true.max(), value.max()))]
        axes.plot(ends, ends, ":", color="gray", zorder=0)
        found = f"MAE {row['mae']:.4g}, RMSE {row['rmse']:.4g}, R² {row['r2']:.3f}"
        axes.set(title=figures.literal(f"{row['number']}: {found}"), xlabel="true", ylabel="predicted")
        axes.grid(alpha=0.3)
    figure.suptitle(figures.literal(title))
    figures.save(figure, path, dpi=110)
