"""Max pooling over tiles: numpy written out, with ties and remainders."""

import jax
import numpy as np
import pytest

from imgcls_jax.models.pooling import tiled_max_pool


@pytest.mark.parametrize(("side", "window"), [(8, 2), (9, 2), (10, 3), (4, 4), (5, 1)])
def test_value_and_gradient(side, window):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(3, side, side, 2)), 0).astype(np.float32)  # half of it zeros: many ties
    out = side // window
    g = rng.normal(size=(3, out, out, 2)).astype(np.float32)
    expected, gradient = np.zeros((3, out, out, 2), np.float32), np.zeros_like(x)
    for b, i, j, c in np.ndindex(expected.shape):
        tile = x[b, i * window : (i + 1) * window, j * window : (j + 1) * window, c]
        row, column = np.unravel_index(tile.argmax(), tile.shape)  # the first of equals, as torch
        expected[b, i, j, c] = tile[row, column]
        gradient[b, i * window + row, j * window + column, c] = g[b, i, j, c]
    value, pullback = jax.vjp(lambda x: tiled_max_pool(x, window), x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(pullback(g)[0], gradient)
