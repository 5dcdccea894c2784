"""Photos that the augmentation tests share."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def photos():
    """uint8 [2, 30, 38, 3]."""
    return np.load(Path(__file__).parents[1] / "golden" / "augment.npz")["photos"]
