import numpy as np
import pytest

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import channel_statistics, load, statistics
from imgcls_jax.data.sources.arrays import Arrays


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chunk", [1, 2000, 2**24])
def test_against_numpy(settings, monkeypatch, channels, chunk):
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", chunk)
    pixels = np.random.default_rng(0).integers(0, 256, (37, 8, 8, channels), np.uint8)
    pixels[..., 0] //= 3
    config = settings(Arrays(), canvas=Canvas(8, 8, channels), mean=(0.0,) * channels, std=(1.0,) * channels)
    train = load(config, arrays={"x_train": pixels, "y_train": np.arange(37) % 2}).train
    mean, std = channel_statistics(train)
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std(axis=(0, 1, 2)), rtol=1e-9)


def test_flat_images_have_no_deviation(settings):
    pixels = np.full((4, 8, 8, 3), 77, np.uint8)
    train = load(settings(Arrays()), arrays={"x_train": pixels, "y_train": np.array([0, 1, 0, 1])}).train
    assert channel_statistics(train)[1].tolist() == [0, 0, 0]
