"""Max pooling: numpy written out, with ties, overlaps, gaps, padding and remainders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.xla import pooling
from imgcls_jax.xla.pooling import max_pool

WAYS = {"tpu": pooling.native, "cuda": functools.partial(pooling.by_taps, compact=True)}
"""Those that are not the CPU's, which computes all the same."""


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding"),
    [
        (8, 6, 2, 2, ((0, 0), (0, 0))),
        (9, 8, 2, 2, ((0, 0), (0, 0))),
        (10, 10, 3, 3, ((0, 0), (0, 0))),
        (4, 4, 4, 4, ((0, 0), (0, 0))),
        (5, 5, 1, 1, ((0, 0), (0, 0))),
        (8, 9, 3, 2, ((1, 1), (1, 1))),
        (9, 8, 3, 2, ((0, 0), (0, 1))),  # ceil mode
        (7, 8, 5, 2, ((2, 2), (2, 2))),
        (6, 7, 3, 1, ((1, 1), (1, 1))),
        (9, 8, 2, 3, ((0, 0), (1, 0))),  # gaps between windows
    ],
)
def test_value_and_gradient(height, width, window, stride, padding):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(3, height, width, 2)), 0).astype(np.float32)  # half of it zeros: many ties
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    out = [(side - window) // stride + 1 for side in padded.shape[1:3]]
    g = rng.integers(-9, 9, (3, *out, 2)).astype(np.float32)  # whole numbers, so that the order of sums is no matter
    expected, gradient = np.zeros_like(g), np.zeros_like(padded)
    for b, i, j, c in np.ndindex(expected.shape):
        view = padded[b, i * stride : i * stride + window, j * stride : j * stride + window, c]
        row, column = np.unravel_index(view.argmax(), view.shape)  # the first of equals, as torch
        expected[b, i, j, c] = view[row, column]
        gradient[b, i * stride + row, j * stride + column, c] += g[b, i, j, c]
    (top, _), (left, _) = padding
    value, pullback = jax.vjp(lambda x: max_pool(x, window, stride, padding), x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), window, stride, padding), expected)
    np.testing.assert_array_equal(pullback(g)[0], gradient[:, top : top + height, left : left + width])


@pytest.mark.parametrize("platform", WAYS)
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_every_platform_computes_the_same(platform, window, stride, padding):
    x = np.maximum(np.random.default_rng(0).normal(size=(2, 13, 12, 2)), 0).astype(np.float32)

    def both(way):
        value, pullback = jax.vjp(lambda x: way(x, window, stride, ((padding, padding),) * 2), x)
        return value, pullback(2 * value)

    jax.tree.map(np.testing.assert_array_equal, both(WAYS[platform]), both(max_pool))


@pytest.mark.parametrize(("platform", "scatters", "barrier"), [("cpu", 0, False), ("cuda", 0, True), ("tpu", 1, False)])
def test_each_platform_is_given_its_own_way(platform, scatters, barrier):
    gradient = jax.grad(lambda x: (max_pool(x, 2, 2, ((0, 0), (0, 0))) ** 2).sum())
    text = jax.jit(gradient).trace(jnp.ones((1, 4, 4, 1))).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("select_and_scatter") == scatters
    assert ("optimization_barrier" in text) == barrier


def test_nan_is_not_lost():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 1] = np.nan
    value, _ = jax.vjp(lambda x: max_pool(x, 2, 2, ((0, 0), (0, 0))), x)
    assert np.isnan(value[0, 0, 0, 0])
    assert np.isfinite(value).sum() == 3
