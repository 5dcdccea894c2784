import jax
import jax.numpy as jnp
import pytest
from jax import lax

from imgcls_jax.plan import products


def of(function, *shapes):
    return products.flops(jax.jit(function).trace(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).jaxpr)


def conv(stride):
    return lambda x, w: lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_product_with_its_two_gradients():
    assert of(lambda a, b: a @ b, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    both = jax.grad(lambda a, b: jnp.sin(a @ b).sum(), (0, 1))
    assert of(both, (3, 5), (5, 7)) == 3 * 2 * 3 * 5 * 7


@pytest.mark.parametrize("stride", [1, 2])
def test_each_gradient_of_a_convolution_costs_as_much_as_it(stride):
    forward = 2 * (2 * (8 // stride) ** 2 * 6) * (3 * 3 * 4)
    shapes = (2, 8, 8, 4), (3, 3, 4, 6)
    assert of(conv(stride), *shapes) == forward
    both = jax.grad(lambda x, w: jnp.sin(conv(stride)(x, w)).sum(), (0, 1))
    assert of(both, *shapes) == 3 * forward


def test_what_nothing_uses_does_not_count():
    assert of(lambda a: (a @ a, a)[1], (5, 5)) == 0


def test_a_scan_counts_each_run_and_a_conditional_its_lesser_branch():
    assert of(lambda a: lax.scan(lambda x, _: (x @ a, None), a, length=4)[0], (5, 5)) == 4 * 250
    assert of(lambda p, a: lax.cond(p > 0, lambda: a @ a @ a, lambda: a @ a), (), (5, 5)) == 250
