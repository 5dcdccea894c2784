import jax.numpy as jnp
import numpy as np

from imgcls_jax.optim import sam


def test_moves_by_the_radius_along_the_gradient():
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[-4.0]])}
    moved = sam.perturb(params, grads, 0.5)
    np.testing.assert_allclose(moved["a"], [1.3, 2.0], rtol=1e-6)
    np.testing.assert_allclose(moved["b"], [[2.6]], rtol=1e-6)


def test_zero_gradient_moves_nothing():
    params = {"a": jnp.ones(3)}
    np.testing.assert_array_equal(sam.perturb(params, {"a": jnp.zeros(3)}, 0.5)["a"], params["a"])
