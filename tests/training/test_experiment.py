"""Initial values that follow from the training images."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment


@pytest.fixture
def whitened(tiny_config):
    """A config with a whitening convolution, and its arrays."""
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (20, 10, 12, 3), np.uint8), "y_train": np.arange(20) % 3}
    settings = dataclasses.replace(tiny_config().data, canvas=c.Canvas(10, 12), image_size=(9, 10))
    transfer = c.Transfer(freeze=("whiten.kernel",))
    return tiny_config(data=settings, augment=(c.RandomCrop(),), model=c.Airbench((4, 4, 4)), transfer=transfer), arrays


def make(config, arrays):
    return Experiment(config, data.load(config.data, arrays=arrays), meshes.make(config.mesh))


def test_whitening_is_computed_from_the_normalised_training_images_and_stays(whitened):
    config, arrays = whitened
    run = make(*whitened)
    row = next(row for row in run.plan.rows if row.path == "whiten.kernel")
    assert (row.source, row.trains_from) == ("computed", None)
    state = run.initial_state()
    kernel = np.asarray(state.frozen["whiten"]["kernel"], np.float64)
    images = (arrays["x_train"][:, 0:9, 1:11] / 255 - 0.5) / 0.25  # the center: half a pixel goes to the even side
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    whitened = patches @ kernel.reshape(12, 24)[:, :12]
    np.testing.assert_allclose(whitened.T @ whitened / len(whitened), np.eye(12), atol=2e-3)

    again = dataclasses.replace(config, seed=1)
    np.testing.assert_array_equal(make(again, arrays).plan.loaded["whiten.kernel"], kernel)
    parameters, _ = run.evaluation_variables(state, 0)
    np.testing.assert_array_equal(parameters["whiten"]["kernel"], kernel)
