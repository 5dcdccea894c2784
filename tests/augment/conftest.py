"""Photos and the torchvision reference that the augmentation tests share."""

import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))  # for augment_cases and make_augment


@pytest.fixture(scope="session")
def photos():
    """uint8 [2, 30, 38, 3]."""
    return np.load(GOLDEN / "augment.npz")["photos"]


@pytest.fixture(scope="session")
def torchvision_reference():
    """The script that makes the goldens; skips where torch or torchvision is missing."""
    pytest.importorskip("torch")
    return pytest.importorskip("make_augment")
