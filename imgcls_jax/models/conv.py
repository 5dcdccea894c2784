"""The one function through which every convolution of the models goes.

XLA's own gradients are used on GPU and TPU. On CPU they are written out here as plain NHWC × HWIO convolutions, because
inside `lax.scan` XLA's CPU backend does not recognise its own transposed ones and falls back to a slow loop: two 3×3
convolutions of 32 channels on 32 images of 16×16 took 275 ms a step there, and 7 ms as written here (CPU time over two
cores, jax 0.10.2, with the flag that `imgcls_jax.runtime` sets). Outside of a scan both take the same time, but the
kernel's gradient is kept apart from what surrounds it: 3.6 s of CPU time in place of 4.3 s for ResNet-18's step on 64
images of 32×32, on busy cores. Matrix products for 1×1 kernels, and summing the kernel's gradient over parts of the
batch, gained nothing. Grouped convolutions keep XLA's gradients, and are slow in a scan.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from imgcls_jax.outline import outlined

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw d e"], stride: int, padding: int, groups: int
) -> Float[Array, "b h2 w2 e"]:
    """A 2-D convolution with `padding` zeros on every side; c = d · groups. Reverse-mode derivatives only."""
    return _native(x, kernel, stride, padding, groups)


def _native(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _forward(x, kernel, stride, padding, groups):
    return _native(x, kernel, stride, padding, groups), (x, kernel)


def _backward(stride, padding, groups, residuals, g):
    x, kernel = residuals

    def native_input_gradient(x, kernel, g):
        return jax.vjp(lambda x: _native(x, kernel, stride, padding, groups), x)[1](g)[0]

    def native_kernel_gradient(x, kernel, g):
        return jax.vjp(lambda kernel: _native(x, kernel, stride, padding, groups), kernel)[1](g)[0]

    if groups > 1:
        return native_input_gradient(x, kernel, g), native_kernel_gradient(x, kernel, g)
    # Two calls, so that the gradient nobody asks for (of a frozen kernel, of the image) is not computed.
    cpu_input_gradient = functools.partial(input_gradient, stride=stride, padding=padding)
    # Otherwise XLA's CPU backend fuses into the transpositions of `x` and `g` all that leads to them (activations,
    # BatchNorms, whole residual blocks), and computes it a second time, element by element in a strided order.
    cpu_kernel_gradient = outlined(functools.partial(kernel_gradient, stride=stride, padding=padding))
    return (
        lax.platform_dependent(x, kernel, g, cpu=cpu_input_gradient, default=native_input_gradient),
        lax.platform_dependent(x, kernel, g, cpu=cpu_kernel_gradient, default=native_kernel_gradient),
    )


conv.defvjp(_forward, _backward)


def input_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c e"],
    g: Float[Array, "b h2 w2 e"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "b h w c"]:
    """The gradient of an ungrouped `conv` by its input (of `x` only the shape counts), one phase at a time.

    Row stride · u + phase of the input meets, for each of its taps i (those with phase + padding − i divisible by the
    stride), row u + (phase + padding − i) / stride of the output.
    """
    batch, *size, channels = x.shape
    blocks = [-(-side // stride) for side in size]

    def phase(row: int, column: int) -> jax.Array:
        taps, pads = [], []
        for start, side, out, window in zip((row, column), blocks, g.shape[1:3], kernel.shape[:2], strict=True):
            first = (start + padding) % stride
            shifts = [(start + padding - tap) // stride for tap in range(first, window, stride)]
            if not shifts:
                return jnp.zeros((batch, *blocks, channels), g.dtype)
            taps.append(slice(first, None, stride))
            pads.append((-shifts[-1], side - out + shifts[0]))
        part = jnp.flip(kernel[tuple(taps)], (0, 1)).swapaxes(2, 3)
        return lax.conv_general_dilated(g, part, (1, 1), pads, dimension_numbers=_LAYOUT)

    phases = [jnp.stack([phase(row, column) for column in range(stride)], 3) for row in range(stride)]
    # [b, h / stride, stride, w / stride, stride, c]
    whole = jnp.stack(phases, 2).reshape(batch, *(stride * side for side in blocks), channels)
    return whole[:, : size[0], : size[1]]


def kernel_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c e"],
    g: Float[Array, "b h2 w2 e"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "kh kw c e"]:
    """The gradient of an ungrouped `conv` by its kernel (of `kernel` only the shape counts)."""
    # Channels play the batch, the batch plays the channels, and `g` is the kernel, dilated by the stride.
    pads = [
        (padding, (out - 1) * stride + window - side - padding)
        for side, out, window in zip(x.shape[1:3], g.shape[1:3], kernel.shape[:2], strict=True)
    ]
    out = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        pads,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return out.transpose(1, 2, 0, 3)
