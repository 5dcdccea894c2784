"""Write what a run's best epoch predicts: as pictures, as a table, and as the predictions themselves.

confusion.png             shares of each class's images that are predicted as each class, and its recall
mistakes.png              the images that are predicted most wrong
per_class.csv             a row per class: recall with its 95 % interval, precision, F1, what it is most confused with
predictions_SPLIT.npz     the outputs for every image; see `evaluation.predictions`
"""

import math
from pathlib import Path

from imgcls_jax.data import Split
from imgcls_jax.disk import outputs
from imgcls_jax.evaluation import per_class, predictions
from imgcls_jax.evaluation.per_class import ClassRow
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.report import confusion, mistakes


def write(workdir: Path, made: Predictions, split: Split, *, title: str) -> None:
    """Write the pictures and the table of a split into a work directory.

    Args:
      workdir: folder of the run.
      made: predictions for every image of the split, in its order; nothing is written if an output is not finite.
      split: whose images are drawn.
      title: of the pictures.

    Raises:
      UserError: an image can no longer be read, or a file cannot be written.
    """
    if not made.is_finite:
        return
    write_table(per_class.rows(made), workdir / "per_class.csv")
    # Outputs beyond the classes of the data are one column.
    classes = sum(not name.startswith("output ") for name in made.class_names)
    title, names = f"{title}, {made.split} images", made.class_names[:classes]
    confusion.plot_predictions(made.labels, made.predicted, names, workdir / "confusion.png", title=title)
    mistakes.write(made, split, workdir / "mistakes.png", title=title)


def write_table(rows: list[ClassRow], path: Path) -> None:
    """Write a CSV file with a line per class; a share that does not exist is empty."""
    outputs.write_csv(path, ClassRow._fields, ([_cell(value) for value in row] for row in rows))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value


def keep(workdir: Path, made: Predictions) -> None:
    """Keep the predictions of a split in the work directory."""
    predictions.save(made, predictions.path_of(workdir, made.split))
