"""The grid of first kernels."""

import numpy as np
import pytest
from model_reference import import_torchvision

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.report import kernels


def test_grid_equals_torchvisions():
    make_grid = import_torchvision().utils.make_grid
    import torch

    rng = np.random.default_rng(0)
    for channels in (1, 3):
        kernel = rng.normal(size=(5, 5, channels, 20)).astype(np.float32)
        images = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        expected = make_grid(images, nrow=8, padding=1, normalize=True, pad_value=1.0).numpy().transpose(1, 2, 0)
        ours = kernels.grid(kernel)
        enlarged = ours.shape[0] // expected.shape[0]
        assert enlarged > 1
        assert ours.shape == (enlarged * expected.shape[0], enlarged * expected.shape[1], 3)
        small = ours[enlarged // 2 :: enlarged, enlarged // 2 :: enlarged]
        # torchvision leaves the cells after the last kernel white only at the border; compare the kernels.
        np.testing.assert_allclose(small[:13] / 255, expected[:13], atol=0.5 / 255 + 1e-5)


def test_grid_by_hand():
    kernel = np.array([[[[-1.0, 3.0]], [[0.0, 1.0]]]])  # 1×2 pixels, one channel, two kernels
    small = kernels.grid(kernel)[::24, ::24, 0]
    assert small.tolist() == [[255] * 7, [255, 0, 64, 255, 255, 128, 255], [255] * 7]


def test_constant_kernels_are_black_rather_than_an_error():
    assert kernels.grid(np.full((3, 3, 3, 1), 0.5)).min() == 0


def test_the_first_convolution_is_the_one_that_sees_the_image():
    model = c.CNN(convs=(c.Conv(4, 3), c.Conv(8, 3)), aggregate="flatten", head=c.Head())
    params = {
        "head.out.kernel": np.zeros((8, 2)),
        "convs.1.conv.kernel": np.zeros((3, 3, 4, 8)),
        "convs.0.conv.bias": np.zeros(4),
        "convs.0.conv.kernel": np.ones((3, 3, 1, 4)),
    }
    path, kernel = kernels.first_convolution(model, params)
    assert path == "convs.0.conv.kernel"
    assert kernel.shape == (3, 3, 1, 4)
    with pytest.raises(UserError, match="^the model has no convolution whose kernels could be shown$"):
        kernels.first_convolution(model, {"head.out.kernel": np.zeros((8, 2))})
