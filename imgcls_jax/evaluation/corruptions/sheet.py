"""Draw every corruption at every severity on one image, to be checked by eye."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from imgcls_jax.display import pictures
from imgcls_jax.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

_CELL = 96  # pixels; smaller images are enlarged by a whole factor
_GAP = 6
_NAMES = 120  # pixels for the corruptions' names
_LINE = 16


def sheet(image: UInt8[np.ndarray, "h w 3"], *, seed: int = 0) -> Image.Image:
    """Draw one row per corruption: its name, the image itself, and the image at severities 1 to 5."""
    factor = max(1, _CELL // max(image.shape[:2]))
    height, width = (factor * side for side in image.shape[:2])
    columns = ("original", *(f"severity {severity}" for severity in SEVERITIES))
    page = Image.new(
        "RGB",
        (_NAMES + len(columns) * (width + _GAP), _LINE + len(CORRUPTIONS) * (height + _GAP)),
        "white",
    )
    write = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=11)
    for column, title in enumerate(columns):
        write.text((_NAMES + column * (width + _GAP), 0), title, fill="black", font=font)
    for row, name in enumerate(CORRUPTIONS):
        top = _LINE + row * (height + _GAP)
        write.text((_GAP, top + height // 2 - _LINE // 2), name, fill="black", font=font)
        cells = [image, *(corrupt(image[None], name, severity, seed=seed)[0] for severity in SEVERITIES)]
        for column, cell in enumerate(cells):
            page.paste(pictures.enlarged(cell, factor), (_NAMES + column * (width + _GAP), top))
    return page
