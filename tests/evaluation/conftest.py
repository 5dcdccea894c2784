"""Photographs for the corruptions."""

import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image


@pytest.fixture(scope="session")
def photographs() -> UInt8[np.ndarray, "n 32 32 3"]:
    """24 parts of the two photographs that come with scikit-learn, at the size of CIFAR."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for photograph in load_sample_images().images:
        small = np.asarray(Image.fromarray(photograph).resize((128, 96), Image.Resampling.BOX))
        tiles += [small[row : row + 32, column : column + 32] for row in (0, 32, 64) for column in (0, 32, 64, 96)]
    return np.stack(tiles)
