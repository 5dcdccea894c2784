"""Canvases as bytes: what is lossless, and what is short."""

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.canvas import read
from imgcls_jax.data.storage import encode


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (31, 47, channels), np.uint8)


def again(canvas: np.ndarray, encoding: str) -> np.ndarray:
    """The canvas encoded and decoded."""
    return read(encode(canvas, encoding), Canvas(*canvas.shape))[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_webp_is_lossless(channels):
    canvas = noise(channels)
    np.testing.assert_array_equal(again(canvas, "webp"), canvas)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_every_channel_of_every_pixel(channels):
    """A chroma subsampling would mix neighbours: red beside green."""
    columns = np.zeros((32, 32, channels), np.uint8)
    columns[:, ::2, 0] = 200
    columns[:, 1::2, -1] = 200
    difference = np.abs(again(columns, "jpeg").astype(int) - columns)
    assert difference.max() < 20


def test_smooth_images_become_shorter():
    gradient = np.asarray(Image.linear_gradient("L").convert("RGB"))
    assert len(encode(gradient, "jpeg")) < len(encode(gradient, "webp")) < gradient.nbytes / 2
