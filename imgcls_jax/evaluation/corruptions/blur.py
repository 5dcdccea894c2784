"""Blur: defocus, glass, motion, zoom and Gaussian."""

import numpy as np
from jaxtyping import Float

from imgcls_jax.evaluation.corruptions import filters
from imgcls_jax.evaluation.corruptions.draws import Generators, Images, draw


def defocus_blur(x: Images, severity: int, rngs: Generators) -> Images:
    """Blur as an out-of-focus lens does: the mean over a disk whose edge is softened."""
    radius, softening = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    return filters.correlate(x, _disk(radius, softening))


def glass_blur(x: Images, severity: int, rngs: Generators) -> Images:
    """Blur as frosted glass does: between two Gaussian blurs, pixels change places with neighbors.

    As published, "swap" assigns two NumPy views to each other, which only copies: each pixel, outside of the two
    topmost rows and leftmost columns, takes the value of the neighbour 0 or 1 above and 0 or 1 to the left. Ours does
    the same, because the published images were made so. Going from the bottom right to the top left, each copy reads
    an original value, so that one pass is one gather.
    """
    sigma, passes = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    n, h, w, _ = x.shape
    x = filters.truncate(filters.gaussian(x, sigma))
    moves = draw(rngs, lambda rng: rng.integers(-1, 1, (passes, 2, h, w)))
    moves[..., :2, :] = moves[..., :2] = 0
    for down, right in np.moveaxis(moves, 0, 2):
        x = filters.gather(x, np.arange(h)[:, None] + down, np.arange(w) + right)
    return filters.gaussian(x, sigma)


def motion_blur(x: Images, severity: int, rngs: Generators) -> Images:
    """Blur as a moving camera does: a trail in a direction within 45° of the horizontal."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    degrees = draw(rngs, lambda rng: rng.uniform(-45, 45))
    return filters.motion_blur(x, radius, sigma, degrees)


def zoom_blur(x: Images, severity: int, rngs: Generators) -> Images:
    """Blur as a camera that zooms does: the mean of the image and of magnifications in steps of 1 %."""
    # As published: whether the last factor is among them, and the size of a magnified image, hang on rounding.
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    return (x + sum(filters.clipped_zoom(x, factor) for factor in factors)) / (len(factors) + 1)


def gaussian_blur(x: Images, severity: int, rngs: Generators) -> Images:
    """Blur by a Gaussian."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    return filters.gaussian(x, sigma)


def _disk(radius: float, softening: float) -> Float[np.ndarray, "7 7"]:
    """Make a kernel of equal weights within `radius` pixels, blurred by a 3 × 3 Gaussian; their sum is 1.

    `softening` is the Gaussian's σ, pixels.
    """
    taps = np.arange(-3, 4)
    disk = (taps[:, None] ** 2 + taps**2 <= radius**2).astype(float)
    bell = np.exp(-(np.arange(-1, 2) ** 2) / (2 * softening**2))
    blurred = filters.correlate(disk[None], np.outer(bell, bell))[0]
    return blurred / blurred.sum()
