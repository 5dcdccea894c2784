"""BatchNorm and ReLU in one against the gradient that JAX derives of the two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.xla import norm


@pytest.mark.parametrize(("grouped", "scaled"), [(False, True), (True, True), (False, False)])
def test_value_and_gradient(grouped, scaled):
    rng = np.random.default_rng(0)
    shape = (2, 4, 5, 3) if grouped else (8, 5, 3)
    axes = tuple(range(int(grouped), len(shape) - 1))
    x = (rng.normal(size=shape) * [1, 2, 3] + [0, 1, -5]).astype(np.float32)
    weights, bias = rng.normal(size=shape).astype(np.float32), np.float32([0.1, -0.2, 0.3])
    affine = (np.float32([1, -2, 0.5]) if scaled else None, bias)

    def plain(x, affine):
        mean = x.mean(axes, keepdims=True)
        var = ((x - mean) ** 2).mean(axes, keepdims=True)
        scale = 1 if affine[0] is None else affine[0]
        return jnp.maximum((x - mean) / jnp.sqrt(var + 1e-5) * scale + affine[1], 0)

    def of(function):
        return jax.jit(jax.value_and_grad(lambda x, affine: (function(x, affine) * weights).sum(), (0, 1)))(x, affine)

    ours = of(lambda x, affine: norm.norm_relu(x, affine, axes, grouped, 1e-5)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, of(plain))
    _, mean, var = norm.norm_relu(jnp.asarray(x), jax.tree.map(jnp.asarray, affine), axes, grouped, 1e-5)
    np.testing.assert_allclose(mean, x.mean(axes, keepdims=grouped), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, x.var(axes, keepdims=grouped), rtol=1e-4)
