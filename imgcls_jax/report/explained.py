"""Draw explanations: each image, its heat map over it, the class, and the nearest training images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from imgcls_jax.disk import outputs
from imgcls_jax.display import pictures
from imgcls_jax.display.pictures import LINE
from imgcls_jax.inference.explanation import Explanation

_SIDE = 160  # pixels that images are fitted to
_NEIGHBOR = 96
_GAP = 12
_COLORS = "inferno"
_OPACITY = 0.65  # of the colors, so that the image stays visible below them


def overlay(image: UInt8[np.ndarray, "h w c"], heat: Float[np.ndarray, "h w"]) -> Image.Image:
    """Lay a map over an image: the image in gray, colors from dark (nothing) to bright (its hottest place)."""
    from matplotlib import colormaps  # imported late: it takes long

    top = heat.max()
    shares = heat / top if top > 0 else heat
    colors = 255 * colormaps[_COLORS](shares)[..., :3]
    gray = np.broadcast_to(image.mean(-1, keepdims=True), colors.shape)
    return Image.fromarray((_OPACITY * colors + (1 - _OPACITY) * gray).round().astype(np.uint8))


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Fit an image into a square: a small one pixel by pixel, a large one smoothly."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)


def sheet(explanations: Sequence[Explanation]) -> Image.Image:
    """Draw one row per image: the image, the map over it, and its nearest training images where they are known."""
    most = max((len(one.neighbors) for one in explanations), default=0)
    width = 3 * _GAP + 2 * _SIDE + most * (_NEIGHBOR + _GAP) + _GAP * bool(most)
    height = _SIDE + 3 * LINE + _GAP
    drawn = Image.new("RGB", (width, 2 * _GAP + LINE + height * len(explanations)), "white")
    draw = ImageDraw.Draw(drawn)
    aside = 4 * _GAP + 2 * _SIDE
    for left, title in ((_GAP, "image"), (2 * _GAP + _SIDE, "evidence, brightest most")):
        pictures.write(draw, (left, _GAP), title, _SIDE, color="gray")
    if most:
        pictures.write(draw, (aside, _GAP), "nearest training images", width - aside, color="gray")
    for row, one in enumerate(explanations):
        top = 2 * _GAP + LINE + row * height
        picture = pictures.enlarged(one.image, 1)
        drawn.paste(fitted(picture, _SIDE), (_GAP, top))
        drawn.paste(heated(one, _SIDE), (2 * _GAP + _SIDE, top))
        below = top + _SIDE + 3
        pictures.write(draw, (_GAP, below), f"{one.class_name}  {100 * one.probability:.1f} %", 2 * _SIDE)
        if one.path:
            pictures.write(draw, (_GAP, below + LINE), str(one.path), 2 * _SIDE, color="gray", keep_end=True)
        for place, near in enumerate(one.neighbors):
            left = aside + place * (_NEIGHBOR + _GAP)
            drawn.paste(fitted(pictures.enlarged(near.image, 1), _NEIGHBOR), (left, top))
            color = "black" if near.class_name == one.class_name else "firebrick"
            pictures.write(draw, (left, top + _NEIGHBOR + 3), near.class_name, _NEIGHBOR, color=color)
            pictures.write(draw, (left, top + _NEIGHBOR + 3 + LINE), f"{near.similarity:.3f}", _NEIGHBOR, color="gray")
    return drawn


def heated(one: Explanation, side: int) -> Image.Image:
    """Draw the map over the image, fitted into a square; the map is smooth where the image shows its pixels."""
    picture = fitted(pictures.enlarged(one.image, 1), side)
    heat = Image.fromarray(one.heat).resize(picture.size, Image.Resampling.BILINEAR)
    return overlay(np.asarray(picture), np.asarray(heat))


def write(explanations: Sequence[Explanation], path: Path) -> None:
    """Write the sheet as a PNG."""
    with outputs.writing(path, binary=True) as file:
        sheet(explanations).save(file, "PNG")
