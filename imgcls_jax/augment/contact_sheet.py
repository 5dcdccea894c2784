"""A picture of what augmentation makes of some images: the eye's test of a policy."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from imgcls_jax.augment.normalise import Channels, denormalise

_GAP = 6
_LINE = 14
_LABELS = 2
"""How many classes of a mixed label are named; the rest is small or nought."""


def contact_sheet(
    before: UInt8[np.ndarray, "n H W c"],
    after: Float[np.ndarray, "draws n h w c"],
    labels: Int[np.ndarray, "n"],
    soft_labels: Float[np.ndarray, "draws n classes"],
    class_names: Sequence[str],
    mean: Channels,
    std: Channels,
    *,
    title: str = "",
) -> Image.Image:
    """One row an image: its canvas, then every draw of the augmentation as the model will see it, with labels.

    Args:
        before: canvases. after: normalised images of each draw, here de-normalised and cut off at black and white.
        labels: class of each canvas. soft_labels: share of each class in each draw.
        mean, std: those of the normalisation.
        title: a line above, such as the phase's epochs.
    """
    seen = np.stack([np.asarray(denormalise(jnp.asarray(draw), mean, std)) for draw in after])
    cell_height = max(before.shape[1], seen.shape[2]) + _LINE + _GAP
    first_width, width = (max(images.shape[-2], 60) + _GAP for images in (before, seen))
    sheet = Image.new(
        "RGB", (_GAP + first_width + width * len(seen), _LINE + 2 * _GAP + cell_height * len(before)), "white"
    )
    write = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    write.text((_GAP, _GAP), title, fill="black", font=font)
    for row, canvas in enumerate(before):
        top = _LINE + 2 * _GAP + row * cell_height
        sheet.paste(_picture(canvas), (_GAP, top + _LINE))
        write.text((_GAP, top), _fit(write, font, class_names[labels[row]], first_width), fill="black", font=font)
        for column, (images, shares) in enumerate(zip(seen, soft_labels, strict=True)):
            left = _GAP + first_width + column * width
            sheet.paste(_picture(images[row]), (left, top + _LINE))
            text = _fit(write, font, _describe(shares[row], class_names), width)
            write.text((left, top), text, fill="black", font=font)
    return sheet


def _picture(image: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    return Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).copy())


def _describe(shares: Float[np.ndarray, "classes"], class_names: Sequence[str]) -> str:
    """The greatest shares, such as "cat 0.70 dog 0.30"; a pure label is its name alone."""
    shares = np.asarray(shares, np.float32)
    greatest = [k for k in np.argsort(-shares, kind="stable")[:_LABELS] if shares[k] >= 0.005]
    if len(greatest) == 1:
        return class_names[greatest[0]]
    return "  ".join(f"{class_names[k]} {shares[k]:.2f}" for k in greatest)


def _fit(write: ImageDraw.ImageDraw, font: ImageFont.ImageFont, text: str, width: int) -> str:
    """The text, cut off with an ellipsis where it is wider than `width`."""
    if write.textlength(text, font=font) <= width:
        return text
    while text and write.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
