"""Compute what `Data.mean` and `Data.std` are set from."""

import numpy as np
from jaxtyping import Float64

from imgcls_jax.data.dataset import Split

_CHUNK_BYTES = 2**24


def channel_statistics(split: Split) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Compute mean and (population) standard deviation of each channel over all pixels of the canvases.

    Both are on the scale where black is 0 and white is 1. The sums are integers, and so exact.
    """
    canvas = split.canvas
    pixels_per_image = canvas.height * canvas.width
    step = max(1, _CHUNK_BYTES // canvas.nbytes)
    total = np.zeros(canvas.channels, np.uint64)
    squares = np.zeros(canvas.channels, np.uint64)
    for start in range(0, len(split), step):
        chunk = split.read(np.arange(start, min(start + step, len(split)))).reshape(-1, canvas.channels)
        total += chunk.sum(axis=0, dtype=np.uint64)
        squares += np.square(chunk, dtype=np.uint32).sum(axis=0, dtype=np.uint64)
    count = len(split) * pixels_per_image
    mean = total / count
    return mean / canvas.white, np.sqrt(np.maximum(squares / count - mean**2, 0)) / canvas.white
