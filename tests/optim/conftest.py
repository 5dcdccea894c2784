"""Reference outputs of torch, Keras and schedulefree, and the inputs that they belong to."""

import runpy
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def reference() -> dict:
    """The functions and constants of the script that made the outputs."""
    return runpy.run_path(str(FOLDER / "make_optim.py"))


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "optim.npz") as file:
        return dict(file)
