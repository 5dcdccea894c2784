"""Run exported functions that are compiled anew for every size of a batch. Needs numpy alone."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

Function = Callable[[UInt8[np.ndarray, "n H W c"]], Sequence[np.ndarray]]
"""From canvases to (probabilities, logits)."""


def in_powers_of_two(function: Function) -> Function:
    """Pad batches with black images to a power of two, so that few sizes are compiled."""

    def padded(images: UInt8[np.ndarray, "n H W c"]) -> Sequence[np.ndarray]:
        count = len(images)
        more = (1 << max(count - 1, 0).bit_length()) - count
        if more:
            images = np.concatenate([images, np.zeros((more, *images.shape[1:]), np.uint8)])
        return [output[:count] for output in function(images)]

    return padded
