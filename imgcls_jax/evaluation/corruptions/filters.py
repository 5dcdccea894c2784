"""Image operations that several corruptions share, on batches [n, h, w] or [n, h, w, c] in float64."""

import numpy as np
from jaxtyping import Float, Int, Real
from scipy import ndimage

Array = Float[np.ndarray, "n h w ..."]


def gaussian(x: Array, sigma: float) -> Array:
    """Blur by a Gaussian, with edge pixels repeated, cut off at 4 sigma (scikit-image's defaults)."""
    return ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4.0, axes=(1, 2))


def truncate(x: Array) -> Array:
    """Reduce to 8 bits, rounded down as a cast to uint8 does.

    The small term keeps whole levels whole after a division by 255.
    """
    return np.floor(255 * np.clip(x, 0, 1) + 1e-6) / 255


def correlate(x: Array, kernel: Real[np.ndarray, "kh kw"]) -> Array:
    """Correlate with an odd-sized kernel, the image mirrored at its edge pixels (OpenCV's filter2D)."""
    (h, w), (kh, kw) = x.shape[1:3], kernel.shape
    borders = ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), *((0, 0),) * (x.ndim - 3))
    padded = np.pad(x, borders, mode="reflect")
    return sum(weight * padded[:, i : i + h, j : j + w] for (i, j), weight in np.ndenumerate(kernel) if weight)


def motion_blur(x: Array, radius: int, sigma: float, degrees: Float[np.ndarray, " n"]) -> Array:
    """Blur by motion as ImageMagick's MotionBlurImage does: a half-Gaussian trail of 2·radius + 1 pixels.

    Tap t has the weight exp(−t² / 2σ²), normalized, and lies at the pixel nearest to t steps in the direction; edge
    pixels are repeated. The result is rounded to 8 bits, as an image file's.
    """
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(degrees)[:, None]
    below, right = (np.ceil(taps * along - 0.5).astype(int) for along in (np.sin(angle), np.cos(angle)))
    h, w = x.shape[1:3]
    rows = np.clip(np.arange(h)[:, None] + below[:, None, :], 0, h - 1)  # [n, h, taps]
    columns = np.clip(np.arange(w)[:, None] + right[:, None, :], 0, w - 1)
    blurred = np.zeros_like(x)
    for tap, weight in enumerate(weights):
        blurred += weight * gather(x, rows[:, :, None, tap], columns[:, None, :, tap])
    return np.rint(255 * blurred) / 255


def clipped_zoom(x: Array, factor: float) -> Array:
    """Magnify the center, ceil(side / factor) pixels wide, by linear interpolation (corners on corners) to at least
    the old size and cut to it."""
    vertical, horizontal = (_zoom_matrix(side, factor) for side in x.shape[1:3])
    n, h, w = x.shape[:3]
    tall = (vertical @ x.reshape(n, h, -1)).reshape(n, h, w, -1)
    return (horizontal @ tall).reshape(x.shape)


def _zoom_matrix(side: int, factor: float) -> Float[np.ndarray, "side side"]:
    """Compute the weight of each old pixel in each new one, along one axis."""
    inside = int(np.ceil(side / factor))
    zoomed = round(inside * factor)
    first = (zoomed - side) // 2
    place = (first + np.arange(side)) * (inside - 1) / (zoomed - 1)
    left = np.minimum(place.astype(int), inside - 2)
    matrix = np.zeros((side, side))
    start = (side - inside) // 2
    matrix[np.arange(side), start + left] = 1 - (place - left)
    matrix[np.arange(side), start + left + 1] = place - left
    return matrix


def sample(x: Array, rows: Float[np.ndarray, "n h w"], columns: Float[np.ndarray, "n h w"], border: str) -> Array:
    """Sample the image at fractional positions, by bilinear interpolation.

    Args:
        border: how it goes on outside: "mirror": d c b | a b c d | c b a; "reflect": c b a | a b c d | d c b.
    """
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    shape = (*rows.shape, *(1,) * (x.ndim - 3))
    down, along = (rows - top).reshape(shape), (columns - left).reshape(shape)
    fold = {"mirror": _mirror, "reflect": _reflect}[border]
    h, w = x.shape[1:3]
    return sum(
        (down if i else 1 - down) * (along if j else 1 - along) * gather(x, fold(top + i, h), fold(left + j, w))
        for i in (0, 1)
        for j in (0, 1)
    )


def gather(x: Array, rows: Int[np.ndarray, "n #h #w"], columns: Int[np.ndarray, "n #h #w"]) -> Array:
    """Take the pixels (rows, columns) of each image."""
    return x[np.arange(len(x))[:, None, None], rows, columns]


def _mirror(index: Int[np.ndarray, "..."], size: int) -> Int[np.ndarray, "..."]:
    index = index % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


def _reflect(index: Int[np.ndarray, "..."], size: int) -> Int[np.ndarray, "..."]:
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)
