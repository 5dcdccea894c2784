"""The 19 corruptions of CIFAR-10-C and CIFAR-100-C, at five severities, as our own seeded implementation.

Operations and constants are those published with Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (ICLR 2019), in `make_cifar_c.py` of github.com/hendrycks/robustness, which made
the official arrays. The random numbers are other ones. The photographs of `frost` are those of the package
`imagecorruptions`; where it is not installed, the ice is drawn.

The constants are meant for 32 × 32 pixels. At other sizes every corruption works, with the same constants: kernels,
grain and drops keep their size in pixels, so that larger images look less corrupted; `elastic_transform`, `pixelate`,
`zoom_blur` and the colors are in proportion to the image.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import blur, digital, filters, noise, weather
from imgcls_jax.evaluation.corruptions.draws import Generators, Images, generators

Corruption = Callable[[Images, int, Generators], Images]
"""Maps images, the severity (1 to 5) and a random generator for each image to images, perhaps beyond 0 to 1."""

CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        noise.gaussian_noise,
        noise.shot_noise,
        noise.impulse_noise,
        blur.defocus_blur,
        blur.glass_blur,
        blur.motion_blur,
        blur.zoom_blur,
        weather.snow,
        weather.frost,
        weather.fog,
        digital.brightness,
        digital.contrast,
        digital.elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
        noise.speckle_noise,
        blur.gaussian_blur,
        weather.spatter,
        digital.saturate,
    )
}
"""All of them by the names of the official arrays: the benchmark's 15, then the 4 held out for tuning."""
BENCHMARK = tuple(CORRUPTIONS)[:15]
"""Those over which the published mean corruption errors are taken."""
SEVERITIES = (1, 2, 3, 4, 5)

_CHUNK = 256  # images at a time, so that float64 copies of a whole test set need not fit into memory


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Corrupt copies of RGB images.

    Args:
        images: uint8 [n, h, w, 3] of at least 8 × 8 pixels.
        name: one of `CORRUPTIONS`.
        severity: 1 (mild) to 5.
        seed, indices: the random numbers of an image depend on the seed, the corruption, the severity and the image's
            index (by default its place in `images`), and on nothing else: neither batch nor order.

    Returns:
        images whose values were cut off at black and white and rounded down, as published.

    Raises:
        UserError: there is no such corruption or severity, or the images are not RGB or smaller than 8 × 8.
    """
    if name not in CORRUPTIONS:
        raise UserError(f"there is no corruption {name!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"there is no severity {severity}: they are 1 (mild) to 5")
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < 8 or images.dtype != np.uint8:
        raise UserError(
            f"corruptions need uint8 RGB images [n, h, w, 3] of at least 8 × 8 pixels, not {images.dtype} "
            f"{list(images.shape)}"
        )
    indices = range(len(images)) if indices is None else indices
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        rngs = generators(seed, list(CORRUPTIONS).index(name), severity, indices[part])
        corrupted[part] = np.rint(255 * filters.truncate(CORRUPTIONS[name](images[part] / 255, severity, rngs)))
    return corrupted
