"""Photographs for the corruptions, and a run for the predictions."""

import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.train import train_and_evaluate


@pytest.fixture(scope="session")
def photographs() -> UInt8[np.ndarray, "n 32 32 3"]:
    """24 parts of the two photographs that come with scikit-learn, at the size of CIFAR."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for photograph in load_sample_images().images:
        small = np.asarray(Image.fromarray(photograph).resize((128, 96), Image.Resampling.BOX))
        tiles += [small[row : row + 32, column : column + 32] for row in (0, 32, 64) for column in (0, 32, 64, 96)]
    return np.stack(tiles)


@pytest.fixture
def finished_run(tiny_config, tiny_arrays, tmp_path):
    """(Work directory, result, arrays) of a small run whose data lie in a file."""
    np.savez(tmp_path / "images.npz", **tiny_arrays, label_names=np.array(["red", "green", "blue"]))
    settings = tiny_config().data
    data = c.Data(
        source=c.Arrays(str(tmp_path / "images.npz")),
        canvas=settings.canvas,
        image_size=settings.image_size,
        mean=settings.mean,
        std=settings.std,
    )
    result = train_and_evaluate(tiny_config(data=data), tmp_path / "run")
    return tmp_path / "run", result, tiny_arrays
