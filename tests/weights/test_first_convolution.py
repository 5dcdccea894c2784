"""The first convolution for other channels, beside timm's `adapt_input_conv` written out for torch's layout."""

import math

import jax
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.models.network import split
from imgcls_jax.weights.convert import from_torch
from imgcls_jax.weights.fit import fit


def timm(weight: np.ndarray, in_chans: int) -> np.ndarray:
    """Of kernels [out, 3, h, w], as timm 1.0 does."""
    if in_chans == 1:
        return weight.sum(axis=1, keepdims=True)
    repeat = math.ceil(in_chans / 3)
    return np.tile(weight, (1, repeat, 1, 1))[:, :in_chans] * np.float32(3 / in_chans)


NET = c.CNN(convs=(c.Conv(4, 3, padding=1), c.Conv(3, 3), c.Conv(5, 3)), aggregate="average", head=c.Head())


def trees(channels: int):
    def build(*, dtype="float32", rngs):
        return NET.build(num_classes=2, channels=channels, image_size=(8, 8), dtype=dtype, rngs=rngs)

    made = split(build, c.BatchNormMode())
    return jax.eval_shape(made.create, jax.random.key(0))


def state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"convs.0.conv": (4, 3, 3, 3), "convs.1.conv": (3, 4, 3, 3), "convs.2.conv": (5, 3, 3, 3)}
    shapes["head"] = (2, 5)
    return {
        f"{name}.{leaf}": rng.normal(size=shape[: None if leaf == "weight" else 1]).astype(np.float32)
        for name, shape in shapes.items()
        for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 16])
def test_the_kernel_is_timm_s(channels):
    weights, notes = state(), []
    loaded = from_torch(weights, NET, *trees(channels), (), notes)
    kernel = loaded["convs.0.conv.kernel"].transpose(3, 2, 0, 1)
    if channels == 3:
        np.testing.assert_array_equal(kernel, weights["convs.0.conv.weight"])
        assert notes == []
    else:
        np.testing.assert_array_equal(kernel, timm(weights["convs.0.conv.weight"], channels))
        (note,) = notes
        how = "summed over the colors" if channels == 1 else f"its colors repeated and scaled by 3/{channels}"
        plural = "channel" if channels == 1 else "channels"
        assert note == f"convs.0.conv.kernel was made for RGB and is adapted to {channels} {plural}: {how}"
    # Another convolution that happens to have three inputs is left alone.
    np.testing.assert_array_equal(loaded["convs.2.conv.kernel"].transpose(3, 2, 0, 1), weights["convs.2.conv.weight"])


def test_a_gray_image_gives_what_it_gives_as_rgb(tmp_path):
    """By a file of weights for RGB, as a user takes it: the sum is the convolution of three equal channels."""
    file = tmp_path / "weights.npz"
    np.savez(file, **state())
    rng = np.random.default_rng(1)
    image = rng.normal(size=(2, 8, 8, 1)).astype(np.float32)
    outputs = []
    for channels in (3, 1):
        loaded = from_torch(dict(np.load(file)), NET, *trees(channels))
        kernel = loaded["convs.0.conv.kernel"]
        shown = np.repeat(image, channels, axis=3)
        outputs.append(
            jax.lax.conv_general_dilated(shown, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def test_a_network_for_other_channels_does_not_fit():
    kernel = {"conv.kernel": np.zeros((3, 3, 5, 8), np.float32)}
    with pytest.raises(UserError, match="conv.kernel is"):
        fit(kernel, {"conv.kernel": (3, 3, 3, 8)})
    with pytest.raises(UserError, match="conv.kernel is"):
        fit({"conv.kernel": np.zeros((3, 3, 3, 8), np.float32)}, {"conv.kernel": (3, 3, 1, 16)})
