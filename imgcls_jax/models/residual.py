"""What the residual networks share: the basic block, the convolution that keeps an image's size, the projection."""

from collections.abc import Callable

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.models.initializers import kaiming_normal_fan_out
from imgcls_jax.models.layers import BatchNorm, Conv2d


def conv(
    in_features: int,
    out_features: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    kernel_initializer: nnx.Initializer = kaiming_normal_fan_out,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> Conv2d:
    """Make a convolution of odd kernel without bias that keeps the image's size but for the stride."""
    return Conv2d(
        in_features,
        out_features,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
        kernel_initializer=kernel_initializer,
        dtype=dtype,
        rngs=rngs,
    )


MakeConv = Callable[..., Conv2d]
"""`conv` with `dtype` and `rngs` given."""


def projection(in_features: int, out_features: int, stride: int, conv: MakeConv) -> nnx.List:
    """Make a shortcut that changes the shape: a 1×1 convolution and BatchNorm."""
    return nnx.List([conv(in_features, out_features, 1, stride=stride), BatchNorm(out_features)])


class BasicBranch(nnx.Module):
    """Two 3×3 convolutions with BatchNorm, the first of which carries the stride: the branch of a basic block."""

    def __init__(self, in_features: int, features: int, *, stride: int, conv: MakeConv):
        self.conv1 = conv(in_features, features, 3, stride=stride)
        self.bn1 = BatchNorm(features)
        self.conv2 = conv(features, features, 3)
        self.bn2 = BatchNorm(features)

    def branch(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Compute what is added to the shortcut."""
        x = self.bn1.rectified(self.conv1(x))
        return self.bn2(self.conv2(x))
