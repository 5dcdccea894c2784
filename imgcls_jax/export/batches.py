"""Run exported programs, of which some are compiled anew for every size of a batch. Needs what their format needs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from imgcls_jax.evaluation import tasks
from imgcls_jax.export import standalone

Function = Callable[[UInt8[np.ndarray, "n H W c"]], Sequence[np.ndarray]]
"""From canvases to (probabilities, logits)."""
SUFFIXES = (".onnx", ".stablehlo")
"""File endings of programs."""


def load(path: Path) -> Function:
    """Return what an exported program computes, of any number of canvases with few compilations.

    Raises:
      standalone.Unusable: it is no such file, or what runs it is not installed.
    """
    function = standalone.load(path)
    return in_powers_of_two(function) if path.suffix == ".stablehlo" else function


def thresholds(about: Mapping[str, Any]) -> list[float] | None:
    """Give the probability from which each of several labels is predicted, by a program's document; None where an image
    has one class."""
    tuned = about["model_card"].get("thresholds")
    return tuned or ([tasks.EVEN] * len(about["class_names"]) if about.get("task") == "labels" else None)


def in_powers_of_two(function: Function) -> Function:
    """Pad batches with black images to a power of two, so that few sizes are compiled."""

    def padded(images: UInt8[np.ndarray, "n H W c"]) -> Sequence[np.ndarray]:
        count = len(images)
        more = (1 << max(count - 1, 0).bit_length()) - count
        if more:
            images = np.concatenate([images, np.zeros((more, *images.shape[1:]), np.uint8)])
        return [output[:count] for output in function(images)]

    return padded
