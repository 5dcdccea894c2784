"""The one function through which every convolution of the models goes.

On GPU and TPU it is XLA's own, with XLA's gradients. On CPU two things are done here.

Gradients are written out as plain NHWC × HWIO convolutions, because inside `lax.scan` XLA's CPU backend does not
recognize its own transposed ones and falls back to a slow loop: two 3×3 convolutions of 32 channels on 32 images of
16×16 took 275 ms a step there, and 7 ms as written here (CPU time over two cores, jax 0.10.2, with the flag that
`xla.runtime` sets). Outside of a scan both take the same time, but the kernel's gradient is kept apart from what
surrounds it: 3.6 s of CPU time in place of 4.3 s for ResNet-18's step on 64 images of 32×32, on busy cores. That of a
1×1 kernel is a matrix product, which needs no transposed copies (8 × 56² × 256 to 64 channels: 36 → 21 ms of CPU time);
products for its two other directions, and summing a kernel's gradient over parts of the batch, gained nothing. Other
grouped convolutions keep XLA's gradients, and are slow in a scan.

Where channels are few, two or four neighbouring pixels of a row are computed as one wide pixel with all their channels
(`_pixels`), because XLA copies the whole window of every output pixel, channel by channel where their number is no
multiple of a vector's, before it multiplies. The same products are summed, and some zeros. A step of two 5×5
convolutions of 10 and 20 channels on 128 images of 32×32 fell from 76 to 49 ms of CPU time, on busy cores.

Depthwise convolutions, of one channel per group, are sums over the kernel's taps (`xla.depthwise`).

All this is of XLA's own convolutions. Those of oneDNN (`xla.onednn`), where a run asks for them, take their place.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from imgcls_jax.xla import depthwise, onednn, plain
from imgcls_jax.xla.outline import outlined

CONVOLUTION = "convolution"
"""`jax.ad_checkpoint.checkpoint_name` of outputs that are computed in a way of the CPU's own."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(
    x: Float[Array, "b h w c"], kernel: Float[Array | np.ndarray, "kh kw d e"], stride: int, padding: int, groups: int
) -> Float[Array, "b h2 w2 e"]:
    """A 2-D convolution with `padding` zeros on every side; c = d · groups. Reverse-mode derivatives only."""
    if plain.wanted():
        return _native(x, kernel, stride=stride, padding=padding, groups=groups)
    return _conv(x, kernel, stride, padding, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, stride, padding, groups):
    return _output(x, kernel, stride, padding, groups)


def _output(x, kernel, stride, padding, groups):
    native = functools.partial(_native, stride=stride, padding=padding, groups=groups)
    if _is_depthwise(x, kernel, groups):
        taps = functools.partial(depthwise.output, stride=stride, padding=padding)
        return checkpoint_name(lax.platform_dependent(x, kernel, cpu=taps, default=native), CONVOLUTION)
    if onednn.serves(x, groups):
        y = onednn.convolution(x, kernel, pads=((padding, padding),) * 2, stride=stride)
        return checkpoint_name(y, CONVOLUTION)
    # A first layer's outputs gain from being wide where its kernel's gradient does not.
    pixels = _pixels(x, kernel, stride, padding, groups, most_outputs=64 if x.shape[3] <= 4 else 48)
    if pixels == 1:
        return native(x, kernel)

    def wide(x, kernel):
        y = _native(
            _wide_input(x, kernel, padding, pixels), _wide_kernel(kernel, pixels), stride=1, padding=0, groups=1
        )
        return y.reshape(*y.shape[:2], -1, kernel.shape[3])

    # Named, because what decides what to keep for the backward pass sees a choice of branches here, no convolution.
    return checkpoint_name(lax.platform_dependent(x, kernel, cpu=wide, default=native), CONVOLUTION)


def _native(x, kernel, *, stride, padding, groups):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _forward(x, kernel, stride, padding, groups):
    return _output(x, kernel, stride, padding, groups), (x, kernel)


def _backward(stride, padding, groups, residuals, g):
    x, kernel = residuals
    native = functools.partial(_native, stride=stride, padding=padding, groups=groups)
    pixels = _pixels(x, kernel, stride, padding, groups, most_outputs=48)

    def native_input_gradient(x, kernel, g):
        return jax.vjp(lambda x: native(x, kernel), x)[1](g)[0]

    def native_kernel_gradient(x, kernel, g):
        return jax.vjp(lambda kernel: native(x, kernel), kernel)[1](g)[0]

    def wide(g):
        return g.reshape(*g.shape[:2], -1, pixels * g.shape[3])

    # Two functions, so that the gradient nobody asks for (of a frozen kernel, of the image) is not computed.
    def cpu_input_gradient(x, kernel, g):
        if pixels == 1:
            return input_gradient(x, kernel, g, stride=stride, padding=padding)
        wide_x, narrow = jax.vjp(lambda x: _wide_input(x, kernel, padding, pixels), x)
        return narrow(input_gradient(wide_x, _wide_kernel(kernel, pixels), wide(g), stride=1, padding=0))[0]

    # Outlined, as XLA's CPU backend would fuse into the transpositions of `x` and `g` all that leads to them
    # (activations, BatchNorms, whole residual blocks), and compute it a second time, element by element in a strided
    # order.
    @outlined
    def cpu_kernel_gradient(x, kernel, g):
        if pixels == 1:
            return kernel_gradient(x, kernel, g, stride=stride, padding=padding)
        wide_kernel, narrow = jax.vjp(lambda kernel: _wide_kernel(kernel, pixels), kernel)
        wide_x = _wide_input(x, kernel, padding, pixels)
        return narrow(kernel_gradient(wide_x, wide_kernel, wide(g), stride=1, padding=0))[0]

    if onednn.serves(x, groups):
        pads = _kernel_pads(x, kernel, g, stride, padding)
        own = functools.partial(onednn.kernel_gradient, pads=pads, stride=stride)
        by_kernel = outlined(own) if onednn.gains_by_kernel_gradient(x, kernel) else cpu_kernel_gradient
        by_input = input_gradient(x, kernel, g, stride=stride, padding=padding, convolve=onednn.convolution)
        return by_input, by_kernel(x, kernel, g)
    if _is_depthwise(x, kernel, groups):
        cpu_input_gradient = functools.partial(depthwise.input_gradient, stride=stride, padding=padding)
        cpu_kernel_gradient = functools.partial(depthwise.kernel_gradient, stride=stride, padding=padding)
    elif groups > 1:
        return native_input_gradient(x, kernel, g), native_kernel_gradient(x, kernel, g)
    return (
        lax.platform_dependent(x, kernel, g, cpu=cpu_input_gradient, default=native_input_gradient),
        lax.platform_dependent(x, kernel, g, cpu=cpu_kernel_gradient, default=native_kernel_gradient),
    )


_conv.defvjp(_forward, _backward)


def _is_depthwise(x, kernel, groups) -> bool:
    return groups == x.shape[3] == kernel.shape[3] > 1


def _pixels(x, kernel, stride, padding, groups, *, most_outputs) -> int:
    """How many pixels of a row to compute as one; 1 where that was measured to gain nothing.

    It gains where few values are computed of few channels, and the zeros add no more than 0.6 to each product.
    """
    _, window, channels, outputs = kernel.shape
    width = x.shape[2] + 2 * padding - window + 1
    if stride == groups == 1 and channels < 32:
        for pixels in (4, 2):
            products = pixels * _wide_window(window, pixels)
            if width % pixels == 0 and pixels * outputs <= most_outputs and products <= 1.6 * window:
                return pixels
    return 1


def _wide_window(window: int, pixels: int) -> int:
    """How many wide pixels the windows of `pixels` neighbours reach over."""
    return -(-(window + pixels - 1) // pixels)


def _wide_input(
    x: Float[Array, "b h w c"], kernel: Float[Array | np.ndarray, "kh kw c e"], padding: int, pixels: int
) -> Float[Array, "b h2 w2 nc"]:
    """`x` padded, with `pixels` neighbours of a row as one; they lie behind each other already.

    Columns of zeros on the right fill the last output's window.
    """
    batch, height, _, channels = x.shape
    window = kernel.shape[1]
    right = (_wide_window(window, pixels) - 1) * pixels - (window - 1)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding + right), (0, 0)))
    return x.reshape(batch, height + 2 * padding, -1, pixels * channels)


def _wide_kernel(kernel: Float[Array | np.ndarray, "kh kw c e"], pixels: int) -> Float[Array, "kh kw2 nc ne"]:
    """The kernel of the wide convolution: for each place in an output's wide pixel, `kernel` shifted by it."""
    rows, window, channels, outputs = kernel.shape
    wide = _wide_window(window, pixels)
    shifted = [
        jnp.pad(kernel, ((0, 0), (place, wide * pixels - window - place), (0, 0), (0, 0))) for place in range(pixels)
    ]
    return jnp.concatenate(shifted, 3).reshape(rows, wide, pixels * channels, pixels * outputs)


def _padded(x, kernel, *, pads):
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_LAYOUT)


def input_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array | np.ndarray, "kh kw c e"],
    g: Float[Array, "b h2 w2 e"],
    *,
    stride: int,
    padding: int,
    convolve: Callable[..., Array] = _padded,
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
        return convolve(g, part, pads=pads)

    phases = [jnp.stack([phase(row, column) for column in range(stride)], 3) for row in range(stride)]
    # [b, h / stride, stride, w / stride, stride, c]
    whole = jnp.stack(phases, 2).reshape(batch, *(stride * side for side in blocks), channels)
    return whole[:, : size[0], : size[1]]


def kernel_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array | np.ndarray, "kh kw c e"],
    g: Float[Array, "b h2 w2 e"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "kh kw c e"]:
    """The gradient of an ungrouped `conv` by its kernel (of `kernel` only the shape counts)."""
    if kernel.shape[:2] == (1, 1) and padding == 0:
        rows = x[:, ::stride, ::stride].reshape(-1, x.shape[3])
        return lax.dot_general(rows, g.reshape(-1, g.shape[3]), (((0,), (0,)), ((), ())))[None, None]
    # Channels play the batch, the batch plays the channels, and `g` is the kernel, dilated by the stride.
    out = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        _kernel_pads(x, kernel, g, stride, padding),
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return out.transpose(1, 2, 0, 3)


def _kernel_pads(x, kernel, g, stride, padding) -> list[tuple[int, int]]:
    """The zeros before and behind each side of `x`, fewer than none behind it where no window reaches its last pixels,
    with which `g`, dilated by the stride, meets it in as many places as the kernel has taps."""
    return [
        (padding, (out - 1) * stride + window - side - padding)
        for side, out, window in zip(x.shape[1:3], g.shape[1:3], kernel.shape[:2], strict=True)
    ]
