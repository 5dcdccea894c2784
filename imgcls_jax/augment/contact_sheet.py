"""A picture of what augmentation makes of some images: the eye's test of a policy."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt
from PIL import Image, ImageDraw

from imgcls_jax.augment.normalization import Channels, denormalize
from imgcls_jax.display import pictures
from imgcls_jax.display.pictures import LINE

_GAP = 6
_NARROWEST = 96
"""Width of a column, pixels, that has room for a class's name."""
_LABELS = 2
"""How many classes of a mixed label are named; the rest is small or nought."""


def contact_sheet(
    before: UInt[np.ndarray, "n H W c"],
    after: Float[np.ndarray, "draws n h w c"],
    labels: Int[np.ndarray, "n"],
    soft_labels: Float[np.ndarray, "draws n classes"],
    class_names: Sequence[str],
    mean: Channels,
    std: Channels,
    *,
    title: str = "",
) -> Image.Image:
    """Draw one row per image: its canvas, then every draw of the augmentation as the model will see it, with labels.

    Args:
        before: canvases. after: normalized images of each draw, here denormalized and cut off at black and white.
        labels: class of each canvas. soft_labels: share of each class in each draw.
        mean, std: those of the normalization.
        title: a line above, such as the phase's epochs.
    """
    factor = pictures.factor(before.shape[1:3])
    seen = np.stack([np.asarray(denormalize(jnp.asarray(draw), mean, std)) for draw in after])
    cell_height = factor * max(before.shape[1], seen.shape[2]) + LINE + _GAP
    first_width, width = (max(factor * images.shape[-2], _NARROWEST) + _GAP for images in (before, seen))
    head = 2 * LINE + 3 * _GAP
    sheet = Image.new("RGB", (_GAP + first_width + width * len(seen), head + cell_height * len(before)), "white")
    write = ImageDraw.Draw(sheet)
    pictures.write(write, (_GAP, _GAP), title, sheet.width - _GAP)
    lefts = [_GAP + first_width + column * width for column in range(len(seen))]
    for left, name in zip((_GAP, *lefts), ("canvas", *(f"draw {n + 1}" for n in range(len(seen)))), strict=True):
        pictures.write(write, (left, LINE + 2 * _GAP), name, width, color="gray")
    for row, canvas in enumerate(before):
        top = head + row * cell_height
        sheet.paste(pictures.enlarged(canvas, factor), (_GAP, top + LINE))
        pictures.write(write, (_GAP, top), class_names[labels[row]], first_width - _GAP)
        for left, images, shares in zip(lefts, seen, soft_labels, strict=True):
            sheet.paste(pictures.enlarged(images[row], factor), (left, top + LINE))
            pictures.write(write, (left, top), _describe(shares[row], class_names), width - _GAP)
    return sheet


def _describe(shares: Float[np.ndarray, "classes"], class_names: Sequence[str]) -> str:
    """The greatest shares, such as "cat 0.70 dog 0.30"; a pure label is its name alone."""
    shares = np.asarray(shares, np.float32)
    greatest = [k for k in np.argsort(-shares, kind="stable")[:_LABELS] if shares[k] >= 0.005]
    if len(greatest) == 1:
        return class_names[greatest[0]]
    return "  ".join(f"{class_names[k]} {shares[k]:.2f}" for k in greatest)
