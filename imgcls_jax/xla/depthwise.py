"""Depthwise convolutions on the CPU, as sums over the taps of the kernel.

XLA's CPU backend computes a convolution of one channel per group many times slower than what it takes to read the
image: 32 channels of 16 images of 112×112 under a 3×3 kernel took 546 ms of CPU time, and 10 ms as the sum of nine
shifted and scaled images, which XLA fuses into one loop; the input's gradient 523 and 7 ms; 1,152 channels of 7×7 under
a 5×5 kernel 89 and 2, 385 and 6 (jax 0.10.2, with the flag that `xla.runtime` sets). torch took 16 and 24 ms for both
gradients of the two. The kernel's gradient is as fast as torch's at large kernels and slower at few channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def output(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k l 1 c"], *, stride: int, padding: int
) -> Float[Array, "b h2 w2 c"]:
    """The convolution of each channel with its own kernel, `padding` zeros on every side."""
    dtype = x.dtype
    x, kernel = _wide(_padded(x, padding)), _wide(kernel)
    rows, columns = kernel.shape[:2]
    size = [(side - window) // stride + 1 for side, window in zip(x.shape[1:3], (rows, columns), strict=True)]
    total = jnp.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            total = total + _tap(x, i, j, size, stride) * kernel[i, j, 0]
    return total.astype(dtype)


def input_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k l 1 c"],
    g: Float[Array, "b h2 w2 c"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "b h w c"]:
    """The gradient by the input (of `x` only the shape counts), one phase of the stride at a time.

    Row stride · u + phase of the padded input meets row u − d of the output under tap phase + stride · d.
    """
    batch, *size, channels = x.shape
    rows, columns = kernel.shape[:2]
    blocks = [-(-(side + 2 * padding) // stride) for side in size]
    least = [(window - 1) // stride for window in (rows, columns)]
    after = [max(block - out, 0) for block, out in zip(blocks, g.shape[1:3], strict=True)]
    g = _wide(jnp.pad(g, ((0, 0), *zip(least, after, strict=True), (0, 0))))
    kernel = _wide(kernel)

    def phase(row: int, column: int) -> jax.Array:
        total = jnp.zeros((batch, *blocks, channels), g.dtype)
        for i in range(row, rows, stride):
            for j in range(column, columns, stride):
                first = least[0] - i // stride, least[1] - j // stride
                part = g[:, first[0] : first[0] + blocks[0], first[1] : first[1] + blocks[1]]
                total = total + part * kernel[i, j, 0]
        return total

    # [b, h / stride, stride, w / stride, stride, c]
    phases = [jnp.stack([phase(row, column) for column in range(stride)], 3) for row in range(stride)]
    whole = jnp.stack(phases, 2).reshape(batch, *(stride * block for block in blocks), channels)
    return whole[:, padding : padding + size[0], padding : padding + size[1]].astype(x.dtype)


def kernel_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k l 1 c"],
    g: Float[Array, "b h2 w2 c"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "k l 1 c"]:
    """The gradient by the kernel (of `kernel` only the shape counts)."""
    x, g = _wide(_padded(x, padding)), _wide(g)
    rows, columns = kernel.shape[:2]
    batch, height, width, channels = g.shape
    seen = (batch, (height - 1) * stride + 1, (width - 1) * stride + 1, channels)

    def tap(number: Array) -> Array:
        part = lax.dynamic_slice(x, (0, number // columns, number % columns, 0), seen)
        return (part[:, ::stride, ::stride] * g).sum((0, 1, 2))

    # A loop, as each tap is a reduction of its own: it compiles in a quarter of the time.
    taps = lax.map(tap, jnp.arange(rows * columns))
    return taps.reshape(rows, columns, 1, channels).astype(kernel.dtype)


def _padded(x: Float[Array, "b h w c"], padding: int) -> Float[Array, "b h2 w2 c"]:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """In float32, in which half precision is summed up; float64 as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _tap(x: Float[Array, "b h w c"], i: int, j: int, size: Sequence[int], stride: int) -> Float[Array, "b h2 w2 c"]:
    """The pixels that one tap of the kernel meets, one per output."""
    ends = [start + stride * (out - 1) + 1 for start, out in zip((i, j), size, strict=True)]
    return x[:, i : ends[0] : stride, j : ends[1] : stride]
