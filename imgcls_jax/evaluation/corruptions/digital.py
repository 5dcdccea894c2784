"""Colour, geometry and compression: brightness, contrast, saturation, elastic transform, pixelation, JPEG."""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy import ndimage

from imgcls_jax.evaluation.corruptions import filters
from imgcls_jax.evaluation.corruptions.draws import Generators, Images, draw


def brightness(x: Images, severity: int, rngs: Generators) -> Images:
    """Add to the value of HSV."""
    amount = (0.05, 0.10, 0.15, 0.20, 0.30)[severity - 1]
    value, saturation, lack = _hsv(x)
    return np.minimum(value + amount, 1) * (1 - saturation * lack)


def contrast(x: Images, severity: int, rngs: Generators) -> Images:
    """Move every value towards the channel's mean over the image."""
    factor = (0.75, 0.50, 0.40, 0.30, 0.15)[severity - 1]
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * factor + mean


def saturate(x: Images, severity: int, rngs: Generators) -> Images:
    """Scale and shift the saturation of HSV: paler at severities 1 and 2, more colorful from 3 on.

    Grey has the hue of red, as in every definition of HSV that gives it one, so that the shift tints it.
    """
    scale, shift = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    value, saturation, lack = _hsv(x)
    return value * (1 - np.clip(scale * saturation + shift, 0, 1) * lack)


def elastic_transform(x: Images, severity: int, rngs: Generators) -> Images:
    """Warp by a random affine map, then by random displacements of every pixel, smooth over `sigma`.

    All lengths are shares of the shorter side, which is 32 pixels as published.
    """
    strength, sigma, skew = (
        side * min(x.shape[1:3])
        for side in (
            (0.00, 0.00, 0.08),
            (0.05, 0.20, 0.07),
            (0.08, 0.06, 0.06),
            (0.10, 0.04, 0.05),
            (0.10, 0.03, 0.03),
        )[severity - 1]
    )
    n, h, w, _ = x.shape
    rows, columns = np.mgrid[:h, :w].astype(float)

    # Three corners of the middle square are moved; the map takes the new ones to the old, (row, column, 1) @ map.
    center, reach = np.array((h // 2, w // 2)), min(h, w) // 3
    corners = center + reach * np.array(((1, 1), (1, -1), (-1, -1)))
    moved = corners + draw(rngs, lambda rng: rng.uniform(-skew, skew, (3, 2)))
    affine = np.linalg.solve(np.concatenate([moved, np.ones((n, 3, 1))], axis=2), np.broadcast_to(corners, (n, 3, 2)))
    places = np.einsum("hwk,nkd->dnhw", np.stack([rows, columns, np.ones((h, w))], axis=-1), affine)
    x = filters.sample(x, places[0], places[1], border="mirror")

    noise = np.moveaxis(draw(rngs, lambda rng: rng.uniform(-1, 1, (2, h, w))), 1, 0)
    down, right = (strength * _smooth(layer, sigma) for layer in noise)
    return filters.sample(x, rows + down, columns + right, border="reflect")


def pixelate(x: Images, severity: int, rngs: Generators) -> Images:
    """Shrink and enlarge with Pillow's box filter: down to this share of each side and up again."""
    share = (0.95, 0.90, 0.85, 0.75, 0.65)[severity - 1]

    def one(image: Image.Image) -> Image.Image:
        small = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.BOX)

    return _by_pillow(x, one)


def jpeg_compression(x: Images, severity: int, rngs: Generators) -> Images:
    """Compress with Pillow's JPEG at this quality."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def one(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(x, one)


def _hsv(x: Images) -> tuple[Float[np.ndarray, "n h w 1"], Float[np.ndarray, "n h w 1"], Images]:
    """Compute HSV's value V and saturation S, and each channel's lack L in [0, 1], which is the hue.

    x = V · (1 − S · L).
    """
    value = x.max(-1, keepdims=True)
    chroma = value - x.min(-1, keepdims=True)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    red = np.broadcast_to((0.0, 1.0, 1.0), x.shape).copy()
    return value, saturation, np.divide(value - x, chroma, out=red, where=chroma > 0)


def _smooth(noise: Float[np.ndarray, "n h w"], sigma: float) -> Float[np.ndarray, "n h w"]:
    return ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3, axes=(1, 2))


def _by_pillow(x: Images, function: Callable[[Image.Image], Image.Image]) -> Images:
    levels = np.rint(255 * x).astype(np.uint8)
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in levels]) / 255
