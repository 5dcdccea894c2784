"""Weather: snow, frost, fog, and spatter of water and mud."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from imgcls_jax.evaluation.corruptions import filters, photographs
from imgcls_jax.evaluation.corruptions.draws import Generators, Images, draw

Layer = Float[np.ndarray, "n h w"]
"""One channel, from 0 to 1."""

_LUMA = np.array((0.299, 0.587, 0.114))
_WATER = np.array((175, 238, 238)) / 255
_MUD = np.array((63, 42, 20)) / 255


def snow(x: Images, severity: int, rngs: Generators) -> Images:
    """Draw flakes, blown downwards, in front of a paler image; a second layer is the first one turned by 180°."""
    mean, deviation, zoom, least, radius, sigma, share = (
        (0.10, 0.2, 1.00, 0.60, 8, 3.0, 0.95),
        (0.10, 0.2, 1.00, 0.50, 10, 4.0, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12, 6.0, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14, 12.0, 0.80),
    )[severity - 1]
    flakes = filters.clipped_zoom(draw(rngs, lambda rng: rng.normal(mean, deviation, x.shape[1:3])), zoom)
    flakes = filters.truncate(np.where(flakes < least, 0, flakes))
    degrees = draw(rngs, lambda rng: rng.uniform(-135, -45))
    flakes = filters.motion_blur(flakes, radius, sigma, degrees)[..., None]
    pale = np.maximum(x, (x @ _LUMA)[..., None] * 1.5 + 0.5)
    return share * x + (1 - share) * pale + flakes + np.rot90(flakes, k=2, axes=(1, 2))


def frost(x: Images, severity: int, rngs: Generators) -> Images:
    """Draw ice on the window: a weighted sum of the image and of a crop of one of the benchmark's photographs.

    Where the package `imagecorruptions`, which brings them, is not installed, the ice is drawn (`_ice`), with the same
    weights: NOT THE PUBLISHED CORRUPTION, and accuracies are not comparable with others'.
    """
    keep, add = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    h, w = x.shape[1:3]
    taken = photographs.frost(h, w)
    if taken is None:
        return keep * x + add * _ice(rngs, h, w)

    def crop(rng: np.random.Generator) -> np.ndarray:
        photograph = taken[rng.integers(len(taken))]
        top, left = (rng.integers(there - wanted) for there, wanted in zip(photograph.shape, (h, w), strict=False))
        return photograph[top : top + h, left : left + w]

    return keep * x + add * draw(rngs, crop) / 255


def fog(x: Images, severity: int, rngs: Generators) -> Images:
    """Add the clouds of a plasma fractal, then darken the image to its former maximum."""
    thickness, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    h, w = x.shape[1:3]
    clouds = plasma(rngs, 2 ** int(np.ceil(np.log2(max(h, w)))), decay)[:, :h, :w, None]
    white = x.max((1, 2, 3), keepdims=True)
    return (x + thickness * clouds) * white / (white + thickness)


def spatter(x: Images, severity: int, rngs: Generators) -> Images:
    """Draw drops on the lens: translucent water (severities 1 to 3) or opaque mud (4 and 5)."""
    mean, deviation, sigma, least, strength, is_mud = (
        (0.62, 0.1, 0.7, 0.70, 0.5, False),
        (0.65, 0.1, 0.8, 0.70, 0.5, False),
        (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )[severity - 1]
    liquid = filters.gaussian(draw(rngs, lambda rng: rng.normal(mean, deviation, x.shape[1:3])), sigma)
    liquid = np.where(liquid < least, 0, liquid)
    if is_mud:
        cover = filters.gaussian((liquid > least).astype(float), strength)[..., None]
        cover = np.where(cover < 0.8, 0, cover)
        return (1 - cover) * x + cover * _MUD
    return x + strength * _drops(filters.truncate(liquid))[..., None] * _WATER


def plasma(rngs: Generators, side: int, decay: float) -> Float[np.ndarray, "n side side"]:
    """Draw plasma fractals by the diamond-square algorithm on a torus, scaled to 0 … 1. `side` is a power of two.

    From one corner on, the middle of each square, then of each edge, is the mean of its four neighbours plus uniform
    noise; the noise shrinks by decay² with each halving of the grid (as published, the amplitude enters twice).
    """
    height = np.zeros((len(rngs), side, side))
    amplitude = 1.0

    def between(four: np.ndarray) -> np.ndarray:
        noise = draw(rngs, lambda rng: rng.uniform(-amplitude, amplitude, four.shape[1:]))
        return four / 4 + noise

    step = side
    while step > 1:
        corners, half = height[:, ::step, ::step], step // 2
        pairs = corners + np.roll(corners, -1, axis=1)
        middles = between(pairs + np.roll(pairs, -1, axis=2))
        height[:, half::step, half::step] = middles
        height[:, ::step, half::step] = between(
            middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        )
        height[:, half::step, ::step] = between(
            middles + np.roll(middles, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        )
        step, amplitude = half, amplitude / decay**2
    height -= height.min((1, 2), keepdims=True)
    return height / height.max((1, 2), keepdims=True)


def _ice(rngs: Generators, h: int, w: int) -> Images:
    """Draw our own frost: bright ridges between cells at several scales, white where thick and bluish where thin.

    Mean (155, 168, 177) of 255 and standard deviation 26 within an image; (146, 167, 179) and 22 in 32 × 32 parts of
    the published photographs.
    """
    thickness = np.mean([_ridges(rngs, h, w, scale) for scale in (0.8, 1.6, 3.2)], axis=0)[..., None]
    thin, thick = np.array((0.20, 0.28, 0.36)), np.array((0.98, 1.0, 1.0))
    return thin + (thick - thin) * thickness


def _ridges(rngs: Generators, h: int, w: int, scale: float) -> Layer:
    """Compute 1 along the zeros of smooth noise, falling to 0 in the cells between, about `scale` pixels wide."""
    margin = int(np.ceil(4 * scale))  # so that the blur's border is outside of the frame
    noise = draw(rngs, lambda rng: rng.normal(size=(h + 2 * margin, w + 2 * margin)))
    smooth = filters.gaussian(noise, scale)[:, margin : margin + h, margin : margin + w]
    # White noise blurred by a Gaussian has the standard deviation 1 / (2σ√π).
    return np.exp(-np.abs(smooth) * 2 * scale * np.sqrt(np.pi))


def _drops(liquid: Layer) -> Layer:
    """Compute how strongly water shines at each pixel: brightest where it is thick and its relief faces the light.

    The relief is the distance from the edges of the drops, up to 20 pixels, smoothed, spread over all levels, and
    embossed. The distance is Euclidean; the published code's is OpenCV's, which is within 2 % of it.
    """
    edges = np.pad(_edges(255 * liquid), ((0, 1), (0, 0), (0, 0)), constant_values=True)  # never without an edge
    # All images at once; between two of them lie more pixels than the distance may count.
    distance = np.minimum(ndimage.distance_transform_edt(~edges, sampling=(100, 1, 1)), 20)[:-1]
    mean = np.full((3, 3), 1 / 9)
    relief = _equalize(np.floor(filters.correlate(distance, mean) + 1e-6).astype(int))
    emboss = np.array(((-2, -1, 0), (-1, 1, 1), (0, 1, 2)))
    relief = np.clip(filters.correlate(relief, emboss), 0, 255)
    shine = liquid * np.rint(filters.correlate(relief, mean))
    most = shine.max((1, 2), keepdims=True)
    return shine / np.where(most > 0, most, 1)


def _edges(levels: Layer, low: float = 50, high: float = 150) -> Bool[np.ndarray, "n h w"]:
    """Find Canny's edges as OpenCV does: ridges of the Sobel gradient's L1 norm above `low` that touch one above
    `high`."""
    padded = np.pad(np.rint(levels), ((0, 0), (1, 1), (1, 1)), mode="edge")
    sobel = np.array(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)))
    gx, gy = (filters.correlate(padded, kernel)[:, 1:-1, 1:-1] for kernel in (sobel, sobel.T))
    norm = np.abs(gx) + np.abs(gy)
    norms = np.pad(norm, ((0, 0), (1, 1), (1, 1)))
    h, w = levels.shape[1:]

    def exceeds(down: int, right: int, *, or_equals: bool) -> np.ndarray:
        ahead, behind = (norms[:, 1 + d : 1 + d + h, 1 + r : 1 + r + w] for d, r in ((down, right), (-down, -right)))
        return (norm > behind) & (norm >= ahead if or_equals else norm > ahead)

    # Along the gradient's direction, in one of four sectors of 45°.
    flat, slanted = (np.abs(gy) < np.abs(gx) * np.tan(angle) for angle in np.deg2rad((22.5, 67.5)))
    diagonal = np.where(gx * gy < 0, exceeds(1, -1, or_equals=False), exceeds(1, 1, or_equals=False))
    ridge = np.where(
        flat, exceeds(0, 1, or_equals=True), np.where(slanted, diagonal, exceeds(1, 0, or_equals=True))
    ) & (norm > low)
    # Pixels that touch, diagonally too, but not across images.
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True
    chains, count = ndimage.label(ridge, touching)
    strong = np.zeros(count + 1, bool)
    strong[chains[ridge & (norm > high)]] = True
    return strong[chains] & ridge


def _equalize(levels: np.ndarray) -> Layer:
    """Equalize the histogram of each image as OpenCV does: the darkest level becomes 0, the brightest 255."""
    out = np.empty(levels.shape)
    for image, equal in zip(levels, out, strict=True):
        counts = np.bincount(image.ravel(), minlength=256)
        darkest = image.min()
        others = image.size - counts[darkest]
        if others == 0:
            equal[:] = image
            continue
        table = np.rint((np.cumsum(counts) - counts[darkest]) * (255 / others))
        equal[:] = table[image]
    return out
