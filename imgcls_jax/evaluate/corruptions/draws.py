"""Random numbers that belong to an image, not to the batch or the order in which it comes."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "n h w 3"]
"""RGB in float64, from 0 (black) to 1 (white); results may exceed that range."""
Generators = Sequence[np.random.Generator]
"""One for each image."""


def generators(seed: int, corruption: int, severity: int, indices: Sequence[int]) -> Generators:
    """A generator for each image, of its own for each corruption and severity."""
    return [np.random.default_rng((seed, corruption, severity, index)) for index in indices]


def draw(rngs: Generators, one: Callable[[np.random.Generator], np.ndarray | float]) -> np.ndarray:
    """One draw an image, stacked: [n, …]."""
    return np.stack([one(rng) for rng in rngs])
