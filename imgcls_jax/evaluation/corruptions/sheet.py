"""Draw every corruption at every severity on one image, to be checked by eye."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from imgcls_jax.display import pictures
from imgcls_jax.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

_GAP = 6
_NAMES = 120  # pixels for the corruptions' names
_HEAD = pictures.LINE + 2


def sheet(image: UInt8[np.ndarray, "h w 3"], *, seed: int = 0) -> Image.Image:
    """Draw one row per corruption: its name, the image itself, and the image at severities 1 to 5."""
    factor = pictures.factor(image.shape[:2])
    height, width = (factor * side for side in image.shape[:2])
    columns = ("original", *(f"severity {severity}" for severity in SEVERITIES))
    size = (_NAMES + len(columns) * (width + _GAP), _HEAD + len(CORRUPTIONS) * (height + _GAP))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(columns):
        pictures.write(draw, (_NAMES + column * (width + _GAP), 0), title, width)
    for row, name in enumerate(CORRUPTIONS):
        top = _HEAD + row * (height + _GAP)
        pictures.write(draw, (_GAP, top + (height - pictures.LINE) // 2), name, _NAMES - _GAP)
        cells = [image, *(corrupt(image[None], name, severity, seed=seed)[0] for severity in SEVERITIES)]
        for column, cell in enumerate(cells):
            page.paste(pictures.enlarged(cell, factor), (_NAMES + column * (width + _GAP), top))
    return page
