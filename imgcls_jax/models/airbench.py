"""The network of the CIFAR-10 speed runs: airbench94 (Jordan 2024, arXiv:2404.00498; KellerJordan/cifar10-airbench).

The first convolution is fixed and whitens patches of 2×2 pixels, so that the layers above start from uncorrelated
inputs. The rest is made to learn in 200 steps: convolutions that begin as the identity, BatchNorms without a scale and
with a short memory, logits divided by the number of features.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from imgcls_jax.config.model import Model, Positive
from imgcls_jax.errors import UserError
from imgcls_jax.models import head as heads
from imgcls_jax.models.initializers import dirac, uniform
from imgcls_jax.models.layers import BatchNorm, Conv2d, activation, at_least_float32, max_pool
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.paths import in_order

# Side of the whitened patches, pixels.
_PATCH = 2
_gelu = activation("gelu")
# From how many pixels the whitening is computed: those of 5,000 images of CIFAR-10, as in the reference.
_PIXELS = 5000 * 32 * 32
_REGISTERED = ("whiten", "conv1", "bn1", "conv2", "bn2", "layer1", "layer2", "layer3", *heads.REGISTERED)


class Airbench(Model):
    """The network of the CIFAR-10 speed run airbench94 (Jordan 2024): a convolution that whitens patches of 2×2 pixels,
    computed from the training images and to be frozen ("whiten.kernel"), and three groups of two 3×3 convolutions."""

    widths: tuple[Positive, Positive, Positive] = (64, 256, 256)
    """Channels of the groups."""
    whitening_eps: Annotated[float, Field(gt=0)] = 5e-4
    """Added to the variance of each direction of the patches, so that the faintest are not blown up."""
    usual_size: ClassVar[int] = 32
    usual_classes: ClassVar[int] = 10
    stage_pattern: ClassVar[str] = r"layer\d"  # a group is a stage, the whitening another

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "AirbenchModule":
        """Make the network.

        Raises:
          UserError: the images are too small for its poolings.
        """
        return AirbenchModule(
            self, num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs
        )

    def computed_values(self, images: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the whitening convolution."""
        return {"whiten.kernel": whitening_kernel(images(_PIXELS), self.whitening_eps)}

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List the names of KellerJordan/cifar10-airbench."""
        return t.rules(
            ("whiten", "whiten", t.CONV),
            ("layers.{}.conv{}", "layer{}.conv{}", t.CONV),
            ("layers.{}.norm{}", "layer{}.bn{}", t.BATCH_NORM),
            ("head", "head.out", t.LINEAR),
        )

    def torch_ignores(self, name: str) -> bool:
        """Its scales of BatchNorms are always 1."""
        return re.fullmatch(r"layers\.\d+\.norm\d\.weight", name) is not None

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as the original registers."""
        return in_order(paths, _REGISTERED)

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List the network of the speed run to 94 %."""
        return {"airbench94": Airbench()}


class Group(nnx.Module):
    """convolution → max pooling → BatchNorm → GELU → convolution → BatchNorm → GELU, at half the resolution."""

    def __init__(self, in_features: int, features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def conv(inputs: int) -> Conv2d:
            return Conv2d(inputs, features, 3, padding=1, bias=False, kernel_initializer=dirac, dtype=dtype, rngs=rngs)

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


class AirbenchModule(nnx.Module):
    """Whitening convolution, three groups, the maximum of each channel, scaled head.

    `whiten.kernel` is random until `whitening_kernel` gives its value, and is meant to be frozen. `layer1` … `layer3`
    are the reference's `layers.1` … `layers.3`; the reference's BatchNorms have a scale that is frozen at 1.
    """

    def __init__(
        self,
        config: Airbench,
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
                f"Airbench's three poolings need images of {least}×{least} pixels or more, but the "
                f"image is {image_size[0]}×{image_size[1]}: use larger ones"
            )
        whitened = 2 * channels * _PATCH**2
        # In float32: bfloat16's rounding changes the two faintest directions of CIFAR-10's patches by 7 % (float16's,
        # as in the reference, by 1 %).
        self.whiten = Conv2d(channels, whitened, _PATCH, dtype=at_least_float32(dtype), rngs=rngs)
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


def whitening_kernel(images: Float[Array | np.ndarray, "n h w c"], eps: float) -> Float[np.ndarray, "2 2 c 8*c"]:
    """The kernel of a convolution that whitens patches of 2×2 pixels, as float32.

    Its first half of output channels are the eigenvectors of the patches' second moments (not centered, as in the
    reference), each divided by √(eigenvalue + eps); the other half are their negatives, so that no sign of a direction
    is lost in the activation that follows.
    """
    moments = np.asarray(_second_moments(images), np.float64).mean(0)
    eigenvalues, eigenvectors = np.linalg.eigh(moments)
    directions = (eigenvectors / np.sqrt(eigenvalues + eps)).reshape(_PATCH, _PATCH, images.shape[-1], -1)
    return np.concatenate([directions, -directions], axis=-1).astype(np.float32)


@jax.jit
def _second_moments(images: Float[Array | np.ndarray, "n h w c"]) -> Float[Array, "n p p"]:
    """The mean over each image of the outer products of its patches; p runs over (row, column, channel)."""
    height, width = (side - _PATCH + 1 for side in images.shape[1:3])
    taps = [images[:, i : i + height, j : j + width] for i in range(_PATCH) for j in range(_PATCH)]
    patches = jnp.concatenate(taps, axis=-1)
    return jnp.einsum("nhwp,nhwq->npq", patches, patches, precision="highest") / (height * width)
