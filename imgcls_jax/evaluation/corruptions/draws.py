"""Draw random numbers that depend on the image only, not on its batch or the order."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "n h w 3"]
"""RGB in float64, from 0 (black) to 1 (white); results may exceed that range."""
Generators = Sequence[np.random.Generator]
"""One for each image."""


def generators(seed: int, corruption: int, severity: int, indices: Sequence[int]) -> Generators:
    """Make a random generator for each image, different for each corruption and severity."""
    return [np.random.default_rng((seed, corruption, severity, index)) for index in indices]


def draw(rngs: Generators, one: Callable[[np.random.Generator], np.ndarray | float]) -> np.ndarray:
    """Draw once per image; return the draws stacked, [n, …]."""
    return np.stack([one(rng) for rng in rngs])
