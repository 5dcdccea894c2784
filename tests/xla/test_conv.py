"""What convolutions do in a way of the CPU's own, forward and backward, against XLA's, in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from imgcls_jax.xla.conv import conv, input_gradient, kernel_gradient

CASES = [
    # batch, height, width, channels in, out, kernel, stride, padding
    (6, 9, 12, 4, 5, 3, 1, 1),
    (6, 9, 12, 4, 5, 3, 1, 0),
    (6, 9, 12, 4, 5, 5, 1, 4),
    (6, 33, 31, 2, 3, 3, 2, 1),
    (6, 12, 9, 4, 5, 3, 2, 1),
    (6, 12, 9, 4, 5, 3, 2, 0),
    (3, 13, 10, 4, 5, 7, 2, 3),
    (3, 11, 14, 4, 5, 5, 3, 1),
    (3, 11, 14, 4, 5, 2, 3, 0),  # stride larger than the kernel
    (3, 28, 28, 4, 5, 14, 14, 0),
    (6, 9, 12, 4, 5, 1, 1, 0),
    (6, 9, 12, 4, 5, 1, 2, 0),
    (6, 9, 12, 4, 5, 1, 2, 1),
    (3, 2, 2, 4, 5, 3, 1, 1),
    (7, 1, 1, 4, 5, 3, 2, 1),
]


def native(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolutions(lowered):
    """The lines of its text in which there is one."""
    return [line for line in lowered.as_text().splitlines() if "stablehlo.convolution(" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("b", "h", "w", "c", "d", "k", "stride", "padding"), CASES)
def test_cpu_gradients_equal_xlas(b, h, w, c, d, k, stride, padding):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = jnp.asarray(rng.standard_normal((b, h, w, c))), jnp.asarray(rng.standard_normal((k, k, c, d)))
        y, vjp = jax.vjp(lambda x, kernel: native(x, kernel, stride, padding), x, kernel)
        g = jnp.asarray(rng.standard_normal(y.shape))
        expected_x, expected_kernel = vjp(g)
        sizes = {"stride": stride, "padding": padding}
        np.testing.assert_allclose(input_gradient(x, kernel, g, **sizes), expected_x, atol=1e-12)
        np.testing.assert_allclose(kernel_gradient(x, kernel, g, **sizes), expected_kernel, atol=1e-11)


WIDE = [
    # batch, height, width, channels in, out, kernel, padding, pixels computed as one forward, backward
    (5, 16, 32, 3, 10, 5, 0, 4, 4),
    (5, 9, 28, 1, 6, 5, 2, 4, 4),
    pytest.param(5, 7, 14, 10, 20, 5, 0, 2, 2, marks=pytest.mark.slow),
    pytest.param(5, 9, 12, 16, 16, 3, 1, 2, 2, marks=pytest.mark.slow),
    (5, 9, 12, 3, 32, 3, 1, 2, 1),
    (5, 12, 10, 3, 32, 7, 3, 2, 1),
    (5, 9, 12, 2, 3, 2, 0, 1, 1),
    (5, 9, 13, 16, 16, 3, 1, 1, 1),  # 13 is odd
    (5, 9, 12, 32, 16, 3, 1, 1, 1),
]


@pytest.mark.parametrize(("b", "h", "w", "c", "d", "k", "padding", "forward", "backward"), WIDE)
def test_wide_pixels_give_the_same(b, h, w, c, d, k, padding, forward, backward):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = jnp.asarray(rng.standard_normal((b, h, w, c))), jnp.asarray(rng.standard_normal((k, k, c, d)))
        y, vjp = jax.vjp(lambda x, kernel: native(x, kernel, 1, padding), x, kernel)
        ours, our_vjp = jax.vjp(lambda x, kernel: conv(x, kernel, 1, padding, 1), x, kernel)
        np.testing.assert_allclose(ours, y, atol=1e-12)
        g = jnp.asarray(rng.standard_normal(y.shape))
        for our_gradient, gradient in zip(our_vjp(g), vjp(g), strict=True):
            np.testing.assert_allclose(our_gradient, gradient, atol=1e-11)

    def widths(function, *arguments):
        """Channels of what each convolution gives on a CPU."""
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cpu",))
        return [int(re.search(r"x(\d+)xf32>$", line).group(1)) for line in convolutions(lowered)]

    x, kernel, g = (jnp.asarray(array, jnp.float32) for array in (x, kernel, g))
    assert widths(lambda x, kernel: conv(x, kernel, 1, padding, 1), x, kernel) == [forward * d]
    gradients = widths(lambda x, kernel, g: jax.vjp(lambda *a: conv(*a, 1, padding, 1), x, kernel)[1](g), x, kernel, g)
    assert sorted(gradients) == sorted([backward * c, backward * d])


DEPTHWISE = [
    # batch, height, width, channels, kernel, stride, padding
    (3, 9, 12, 4, 3, 1, 1),
    (3, 12, 9, 4, 5, 2, 0),
    (3, 13, 10, 5, 5, 2, 2),
    (2, 11, 14, 3, 3, 3, 1),
    (2, 11, 14, 3, 2, 3, 0),  # stride larger than the kernel
    (2, 1, 1, 3, 3, 1, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("b", "h", "w", "c", "k", "stride", "padding"), DEPTHWISE)
def test_depthwise_convolutions_equal_xlas(b, h, w, c, k, stride, padding):
    """Output and both gradients, with no convolution left in the CPU's program; half precision is summed in float32."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = jnp.asarray(rng.standard_normal((b, h, w, c))), jnp.asarray(rng.standard_normal((k, k, 1, c)))

        def reference(x, kernel):
            dims = ("NHWC", "HWIO", "NHWC")
            pads = ((padding, padding),) * 2
            return lax.conv_general_dilated(
                x, kernel, (stride, stride), pads, dimension_numbers=dims, feature_group_count=c
            )

        y, vjp = jax.vjp(reference, x, kernel)
        ours, our_vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride, padding, c), x, kernel)
        np.testing.assert_allclose(ours, y, atol=1e-12)
        g = jnp.asarray(rng.standard_normal(y.shape))
        for our_gradient, gradient in zip(our_vjp(g), vjp(g), strict=True):
            np.testing.assert_allclose(our_gradient, gradient, atol=1e-11)
        half = conv(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), stride, padding, c)
        assert half.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(half, np.float64), y, rtol=0.01, atol=0.03 * k)

    def both(x, kernel, g):
        y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride, padding, c), x, kernel)
        return y, vjp(g)

    arrays = (jnp.asarray(array, jnp.float32) for array in (x, kernel, g))
    assert convolutions(jax.jit(both).trace(*arrays).lower(lowering_platforms=("cpu",))) == []


def test_unwanted_gradients_are_not_computed():
    """A frozen kernel's gradient, and the image's, cost nothing in the compiled program."""
    x, kernel = jnp.ones((1, 32, 32, 8)), jnp.ones((3, 3, 8, 8))

    def flops(argnums):
        loss = jax.grad(lambda x, kernel: conv(x, kernel, 1, 1, 1).sum() ** 2, argnums)
        return jax.jit(loss).lower(x, kernel).compile().cost_analysis()["flops"]

    assert flops(0) < 0.75 * flops((0, 1))


@pytest.mark.skipif(jax.devices()[0].platform != "cpu", reason="the written-out gradients run on CPU")
def test_scan_contains_no_other_convolution_than_the_cpus_own():
    """Inside a scan, every convolution of a step must be NHWC × HWIO, or XLA's CPU backend falls off its fast path."""
    x = jnp.ones((2, 4, 8, 8, 3))

    def step(kernel, x):
        def loss(k):
            return (conv(jax.nn.relu(conv(x, k, 2, 1, 1)), k, 1, 1, 1) ** 2).sum()

        return kernel - jax.grad(loss)(kernel), None

    found = convolutions(jax.jit(lambda kernel: lax.scan(step, kernel, x)[0]).lower(jnp.ones((3, 3, 3, 3))))
    assert len(found) >= 4
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in found)
