"""A 2-D convolution and a blur, by hand: cut the image into patches, then multiply matrices.

A convolution slides a kernel over an image and takes, at each place, the sum of products of the two. All these sums
are one matrix product: each patch of the image is a row, each output channel's kernel is a column. Nothing else is
needed for strides and dilation (which pixels belong to a patch), groups (several smaller products side by side), or
the gradients (JAX differentiates gathers and products).

This is for reading. The library's models use `lax.conv_general_dilated`, which never stores the patches: here a k × k
kernel makes k² copies of the image. Images are NHWC and kernels HWIO, as everywhere in this repository.

    python examples/convolution_by_hand.py
"""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def output_size(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> int:
    """Number of places where a kernel fits along an axis of `size` pixels: floor((H − (k − 1)·d − 1) / s) + 1.

    A kernel of k taps, `dilation` pixels apart, covers (k − 1)·d + 1 pixels; the rest of the axis is walked in strides.
    """
    covered = (kernel - 1) * dilation + 1
    if covered > size:
        raise ValueError(f"a kernel of {kernel} taps with dilation {dilation} covers {covered} pixels, of {size}: pad")
    return (size - covered) // stride + 1


def patches(
    x: Float[Array, "b h w c"], kernel_size: tuple[int, int], stride: int = 1, dilation: int = 1
) -> Float[Array, "b h2 w2 kh kw c"]:
    """The pixels under the kernel at each of its places.

    Tap (i, j) of the patch at (row, column) is pixel (row·stride + i·dilation, column·stride + j·dilation).
    """

    def pixels(axis: int) -> Array:
        """[places, taps]: which pixel of the axis each tap sees."""
        taps = kernel_size[axis]
        places = output_size(x.shape[1 + axis], taps, stride, dilation)
        return stride * jnp.arange(places)[:, None] + dilation * jnp.arange(taps)

    rows, columns = pixels(0), pixels(1)
    return x[:, rows[:, None, :, None], columns[None, :, None, :]]


def conv2d(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw d e"],
    bias: Float[Array, "e"] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Float[Array, "b h2 w2 e"]:
    """A convolution (without flipping the kernel, as everywhere in deep learning).

    Args:
        x: images.
        kernel: d = c / groups input channels for each of the e output channels.
        bias: added to each output channel.
        stride: pixels from one place of the kernel to the next.
        padding: zeros around the image.
        dilation: pixels from one tap of the kernel to the next.
        groups: the input and output channels are cut into this many equal runs; each output run sees its input run
            only. With groups = c every channel is filtered by itself (a depthwise convolution).

    Raises:
        ValueError: the shapes do not fit each other, or the kernel does not fit into the padded image.
    """
    kh, kw, d, e = kernel.shape
    for name, value, least in (("stride", stride, 1), ("dilation", dilation, 1), ("padding", padding, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}, and must be at least {least}")
    _check_channels(x.shape[-1], d, e, groups, bias)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = einops.rearrange(patches(x, (kh, kw), stride, dilation), "b h w i j (g d) -> b h w g (i j d)", g=groups)
    columns = einops.rearrange(kernel, "i j d (g e) -> g (i j d) e", g=groups)
    # HIGHEST, because GPUs and TPUs would multiply in TF32 or bfloat16.
    out = jnp.einsum("b h w g k, g k e -> b h w g e", rows, columns, precision=jax.lax.Precision.HIGHEST)
    out = einops.rearrange(out, "b h w g e -> b h w (g e)")
    return out if bias is None else out + bias


def blur(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c"]:
    """Each channel's mean over a sliding window of `size` × `size` pixels: a depthwise convolution with equal weights.

    Without padding, so that h2 = h − size + 1.
    """
    if size < 1:
        raise ValueError(f"a window of {size} pixels is empty: size starts at 1")
    return patches(x, (size, size)).mean((3, 4))


def _check_channels(channels: int, d: int, e: int, groups: int, bias: Float[Array, "e"] | None) -> None:
    if groups < 1 or channels % groups or e % groups:
        raise ValueError(f"{groups} groups do not divide {channels} input and {e} output channels equally")
    if d * groups != channels:
        raise ValueError(
            f"the kernel takes {d} input channels a group, but {channels} channels in {groups} groups are "
            f"{channels // groups} a group"
        )
    if bias is not None and bias.shape != (e,):
        raise ValueError(f"the bias has the shape {bias.shape}, but there are {e} output channels")


def main() -> None:
    """Compare with JAX's own convolution, gradients included."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (4, 64, 64, 8))
    kernel = jax.random.normal(keys[1], (3, 5, 2, 16))
    bias = jax.random.normal(keys[2], (16,))
    settings = dict(stride=2, dilation=3, groups=4)

    def by_hand(x, kernel, bias):
        return conv2d(x, kernel, bias, **settings)

    def built_in(x, kernel, bias):
        return bias + jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(2, 2),
            padding="VALID",
            rhs_dilation=(3, 3),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
            precision=jax.lax.Precision.HIGHEST,
        )

    def gradients(f):
        return jax.grad(lambda *inputs: (f(*inputs) ** 2).mean(), argnums=(0, 1, 2))(x, kernel, bias)

    print("output", by_hand(x, kernel, bias).shape)
    difference = jnp.abs(by_hand(x, kernel, bias) - built_in(x, kernel, bias)).max()
    print(f"greatest difference {difference:.1e}")
    for name, ours, theirs in zip(("x", "kernel", "bias"), gradients(by_hand), gradients(built_in), strict=True):
        print(f"gradient by {name}: greatest difference {jnp.abs(ours - theirs).max():.1e}")


if __name__ == "__main__":
    main()
