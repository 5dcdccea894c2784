"""The network of the CIFAR-10 speed runs: airbench94 (Jordan 2024, arXiv:2404.00498; KellerJordan/cifar10-airbench).

The first convolution is fixed and whitens patches of 2×2 pixels, so that the layers above start from uncorrelated
inputs. The rest is made to learn in 200 steps: convolutions that begin as the identity, BatchNorms without a scale and
with a short memory, logits divided by the number of features.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.errors import UserError
from imgcls_jax.models.init import dirac, uniform
from imgcls_jax.models.layers import BatchNorm, Conv, activation, at_least_float32, max_pool

# Side of the whitened patches, pixels.
_PATCH = 2
_gelu = activation("gelu")


class Group(nnx.Module):
    """convolution → max pooling → BatchNorm → GELU → convolution → BatchNorm → GELU, at half the resolution."""

    def __init__(self, in_features: int, features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def conv(inputs: int) -> Conv:
            return Conv(inputs, features, 3, padding=1, bias=False, kernel_initializer=dirac, dtype=dtype, rngs=rngs)

        self.conv1, self.bn1 = conv(in_features), _batch_norm(features)
        self.conv2, self.bn2 = conv(features), _batch_norm(features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        x = _gelu(self.bn1(max_pool(self.conv1(x), 2)))
        return _gelu(self.bn2(self.conv2(x)))


def _batch_norm(features: int) -> BatchNorm:
    # 200 steps, of which the last count, are too few for torch's momentum of 0.1.
    return BatchNorm(features, momentum=0.4, epsilon=1e-12, use_scale=False)


class ScaledHead(nnx.Module):
    """A linear layer without bias, its kernel of variance 1, and its logits divided by the number of features; it
    computes in float32."""

    def __init__(self, in_features: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.out = nnx.Linear(
            in_features,
            num_classes,
            use_bias=False,
            kernel_init=uniform(math.sqrt(3)),
            dtype=at_least_float32(dtype),
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b k"]:
        return self.out(x) / x.shape[-1]


class Airbench(nnx.Module):
    """Whitening convolution, three groups, the maximum of each channel, scaled head.

    `whiten.kernel` is random until `whitening_kernel` gives its value, and is meant to be frozen. `layer1` … `layer3`
    are the reference's `layers.1` … `layers.3`; the reference's BatchNorms have a scale that is frozen at 1.
    """

    def __init__(
        self,
        config: cfg.Airbench,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        least = 2**3 + _PATCH - 1
        if min(image_size) < least:
            raise UserError(
                f"the three poolings of model.family 'airbench' need images of {least}×{least} pixels or more, but the "
                f"image is {image_size[0]}×{image_size[1]}: use larger ones"
            )
        whitened = 2 * channels * _PATCH**2
        # In float32: bfloat16's rounding changes the two faintest directions of CIFAR-10's patches by 7 % (float16's,
        # as in the reference, by 1 %).
        self.whiten = Conv(channels, whitened, _PATCH, dtype=at_least_float32(dtype), rngs=rngs)
        first, second, third = config.widths
        self.layer1 = Group(whitened, first, dtype=dtype, rngs=rngs)
        self.layer2 = Group(first, second, dtype=dtype, rngs=rngs)
        self.layer3 = Group(second, third, dtype=dtype, rngs=rngs)
        self.head = ScaledHead(third, num_classes, dtype=dtype, rngs=rngs)
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b k"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "whiten", "layer1" … "layer3", "max", "head" (the logits)."""
        maps = {}
        maps["whiten"] = x = _gelu(self.whiten(x).astype(self.dtype))
        maps["layer1"] = x = self.layer1(x)
        maps["layer2"] = x = self.layer2(x)
        maps["layer3"] = x = self.layer3(x)
        maps["max"] = x = x.max((1, 2))
        maps["head"] = self.head(x)
        return maps


def whitening_kernel(images: Float[Array, "n h w c"], eps: float) -> Float[np.ndarray, "2 2 c 8*c"]:
    """The kernel of a convolution that whitens patches of 2×2 pixels, as float32.

    Its first half of output channels are the eigenvectors of the patches' second moments (not centred, as in the
    reference), each divided by √(eigenvalue + eps); the other half are their negatives, so that no sign of a direction
    is lost in the activation that follows.
    """
    moments = np.asarray(_second_moments(images), np.float64).mean(0)
    eigenvalues, eigenvectors = np.linalg.eigh(moments)
    directions = (eigenvectors / np.sqrt(eigenvalues + eps)).reshape(_PATCH, _PATCH, images.shape[-1], -1)
    return np.concatenate([directions, -directions], axis=-1).astype(np.float32)


@jax.jit
def _second_moments(images: Float[Array, "n h w c"]) -> Float[Array, "n p p"]:
    """The mean over each image of the outer products of its patches; p runs over (row, column, channel)."""
    height, width = (side - _PATCH + 1 for side in images.shape[1:3])
    taps = [images[:, i : i + height, j : j + width] for i in range(_PATCH) for j in range(_PATCH)]
    patches = jnp.concatenate(taps, axis=-1)
    return jnp.einsum("nhwp,nhwq->npq", patches, patches, precision="highest") / (height * width)
