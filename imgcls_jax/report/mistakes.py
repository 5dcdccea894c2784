"""Draw the images on which a network is most wrong."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from imgcls_jax.data import Split
from imgcls_jax.disk import outputs
from imgcls_jax.display import pictures
from imgcls_jax.display.pictures import LINE
from imgcls_jax.evaluation import scores
from imgcls_jax.evaluation.predictions import Predictions

MOST = 24
_COLUMNS = 6
_LARGEST = 160  # pixels: longer sides are reduced to it
_WIDTH = 172  # of a cell's text, pixels
_GAP = 10


def worst(predictions: Predictions, count: int = MOST) -> np.ndarray:
    """Return the rows of the wrong images to whose own class the lowest probability is given, the lowest first.

    Args:
      predictions: whose outputs are finite.
      count: at most so many.
    """
    order = np.argsort(-scores.log_losses(predictions), kind="stable")
    return order[~predictions.right[order]][:count]


def sheet(predictions: Predictions, split: Split, *, title: str, count: int = MOST) -> Image.Image:
    """Draw the worst mistakes: each image with its class, the predicted one, both probabilities, and its file.

    Args:
      predictions: of every image of `split`, in its order.
      split: whose canvases are drawn.
      title: above; the number of mistakes is added.
      count: at most so many images.

    Raises:
      UserError: an image can no longer be read.
    """
    rows = worst(predictions, count)
    images = [_thumbnail(image) for image in split.read(rows)] if len(rows) else []
    height = max((image.height for image in images), default=0) + 3 * LINE + 2 * _GAP
    columns = min(_COLUMNS, max(len(rows), 3))  # as wide as the title at least
    lines = -(-len(rows) // _COLUMNS)
    head = LINE + 2 * _GAP
    canvas = Image.new("RGB", (_GAP + columns * (_WIDTH + _GAP), head + lines * height), "white")
    draw = ImageDraw.Draw(canvas)
    pictures.write(draw, (_GAP, _GAP), f"{title}: {_counts(predictions, len(rows))}", canvas.width - 2 * _GAP)
    names, shares = predictions.class_names, predictions.take(rows).probabilities
    for place, (row, image) in enumerate(zip(rows.tolist(), images, strict=True)):
        left, top = _GAP + place % _COLUMNS * (_WIDTH + _GAP), head + place // _COLUMNS * height
        true, predicted = int(predictions.labels[row]), int(predictions.predicted[row])
        own, other = (shares[place, label] for label in (true, predicted))
        canvas.paste(image, (left, top))
        below = top + height - 3 * LINE - 2 * _GAP + 3
        pictures.write(draw, (left, below), f"{names[true]} → {names[predicted]}", _WIDTH)
        pictures.write(draw, (left, below + LINE), f"{_percent(own)} → {_percent(other)}", _WIDTH, color="firebrick")
        pictures.write(draw, (left, below + 2 * LINE), predictions.names[row], _WIDTH, color="gray", keep_end=True)
    return canvas


def _counts(predictions: Predictions, shown: int) -> str:
    wrong = int((~predictions.right).sum())
    if not wrong:
        return f"no mistake in {len(predictions):,} images"
    chosen = "" if shown == wrong else f"the worst {shown} of "
    where = f"{chosen}{wrong:,} mistakes in {len(predictions):,} images"
    return f"{where}; true → predicted class, and the probabilities of both"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _thumbnail(image: np.ndarray) -> Image.Image:
    drawn = pictures.enlarged(image, pictures.factor(image.shape[:2]))
    drawn.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return drawn


def write(predictions: Predictions, split: Split, path: Path, *, title: str) -> None:
    """Write the sheet as a PNG; arguments as for `sheet`."""
    drawn = sheet(predictions, split, title=title)
    with outputs.writing(path, binary=True) as file:
        drawn.save(file, "PNG")
