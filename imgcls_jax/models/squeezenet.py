"""SqueezeNet (Iandola et al. 2016) with torchvision's structure and names (`classifier.1` is `head.out` here)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Model, Positive, Rate
from imgcls_jax.errors import UserError
from imgcls_jax.models import head as heads
from imgcls_jax.models.layers import Conv2d, at_least_float32, global_average_pool, max_pool, pooled_size
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.catalog import Entry, torchvision
from imgcls_jax.weights.paths import in_order

Version = Literal["1_0", "1_1"]
_REGISTERED = ("features", "squeeze", "expand1x1", "expand3x3", *heads.REGISTERED)


class Architecture(NamedTuple):
    """What tells the two versions apart."""

    channels: int
    """Channels of the first convolution, of stride 2 without padding."""
    kernel: int
    """Side of its kernel."""
    layers: tuple[tuple[int, int] | None, ...]
    """After it: the channels of a Fire module (squeezed, of each expansion), or None for max pooling."""


_ARCHITECTURES: dict[Version, Architecture] = {
    "1_0": Architecture(
        96, 7, (None, (16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256))
    ),
    "1_1": Architecture(
        64, 3, (None, (16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))
    ),
}


class SqueezeNet(Model):
    """torchvision's SqueezeNet: Fire modules, then dropout and a 1×1 convolution as the classifier."""

    version: Version
    """torchvision's squeezenet1_0 or squeezenet1_1, which computes 2.4 times less at about the same accuracy."""
    dropout: Rate = 0.5
    """Dropout rate before the classifier."""
    num_outputs: Positive | None = None
    """Number of logits, where a published classifier with more of them than the data has classes is to be kept; None:
    one per class."""
    stage_pattern: ClassVar[str] = r"features\.\d+"  # the first convolution and each Fire module are stages

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "SqueezeNetModule":
        """Make the network.

        Raises:
          UserError: the images are too small for its poolings.
        """
        return SqueezeNetModule(
            self, num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs
        )

    def output_classes(self, num_classes: int) -> int:
        """Return `num_outputs` where it is set."""
        return self.num_outputs or num_classes

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List torchvision's names."""
        return t.rules(
            ("features.{}", "features.{}", t.CONV),
            ("features.{}.squeeze", "features.{}.squeeze", t.CONV),
            ("features.{}.expand{}x{}", "features.{}.expand{}x{}", t.CONV),
            ("classifier.1", "head.out", t.CONV),
        )

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as torchvision registers."""
        return in_order(paths, _REGISTERED)

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List torchvision's networks."""
        return {f"squeezenet{version}": SqueezeNet(version) for version in _ARCHITECTURES}

    @classmethod
    def published(cls) -> Sequence[Entry]:
        """List torchvision's weights, as its WeightsEnum has them."""
        return (
            torchvision("squeezenet1_0", "IMAGENET1K_V1", "b66bff10", 256, 1_248_424, 58.092, 80.420),
            torchvision("squeezenet1_1", "IMAGENET1K_V1", "b8a52dc0", 256, 1_235_496, 58.178, 80.624),
        )


class Fire(nnx.Module):
    """A 1×1 convolution that squeezes the channels, then 1×1 and 3×3 convolutions side by side; ReLU after each."""

    def __init__(self, in_features: int, squeezed: int, expanded: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """`expanded`: channels of each of the two expansions; the output has twice as many."""
        make = partial(Conv2d, init="kaiming_uniform", dtype=dtype, rngs=rngs)
        self.squeeze = make(in_features, squeezed, 1)
        self.expand1x1 = make(squeezed, expanded, 1)
        self.expand3x3 = make(squeezed, expanded, 3, padding=1)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        x = jax.nn.relu(self.squeeze(x))
        return jnp.concatenate([jax.nn.relu(self.expand1x1(x)), jax.nn.relu(self.expand3x3(x))], axis=-1)


class ConvHead(nnx.Module):
    """dropout → 1×1 convolution to the classes → ReLU → global average, in float32 from the average on."""

    def __init__(self, in_features: int, *, dropout: float, num_classes: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(dropout)
        self.out = Conv2d(
            in_features,
            num_classes,
            1,
            kernel_initializer=nnx.initializers.normal(0.01),
            bias_initializer=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b classes"]:
        x = jax.nn.relu(self.out(self.dropout(x, rngs=rngs)))
        return global_average_pool(x.astype(at_least_float32(x.dtype)))


class SqueezeNetModule(nnx.Module):
    """Fire modules between three max poolings; the classifier is a convolution. No BatchNorm."""

    def __init__(
        self,
        config: SqueezeNet,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        architecture = _ARCHITECTURES[config.version]
        check_size(architecture, image_size)
        pool = partial(max_pool, window=3, stride=2, ceil_mode=True)
        features = architecture.channels
        stem = Conv2d(channels, features, architecture.kernel, stride=2, init="kaiming_uniform", dtype=dtype, rngs=rngs)
        layers: list[Callable[..., jax.Array]] = [stem, jax.nn.relu]
        for fire in architecture.layers:
            if fire is None:
                layers.append(pool)
            else:
                squeezed, expanded = fire
                layers.append(Fire(features, squeezed, expanded, dtype=dtype, rngs=rngs))
                features = 2 * expanded
        # Layers without parameters keep their places, so that paths have torchvision's numbers.
        self.features: nnx.List[Callable[..., jax.Array]] = nnx.List(layers)
        self.head = ConvHead(features, dropout=config.dropout, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b classes"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "features.0" …, "head" (the logits)."""
        maps = {}
        for i, layer in enumerate(self.features):
            maps[f"features.{i}"] = x = layer(x)
        maps["head"] = self.head(x, rngs)
        return maps


def check_size(architecture: Architecture, image_size: tuple[int, int]) -> None:
    """Raise a `UserError` that names the layer at which nothing of the image is left."""
    for side in image_size:
        size = pooled_size(side, architecture.kernel, stride=2)
        if size < 1:
            raise UserError(
                f"SqueezeNet's first convolution has a {architecture.kernel}×{architecture.kernel} kernel, but the "
                f"image is {image_size[0]}×{image_size[1]} pixels: use larger images"
            )
        for i, fire in enumerate(architecture.layers, start=2):
            if fire is None:
                before, size = size, pooled_size(size, 3, stride=2, ceil_mode=True)
                if size < 1:
                    raise UserError(
                        f"SqueezeNet's pooling features.{i} is left with {before} pixels per side of an image of "
                        f"{image_size[0]}×{image_size[1]}: use larger images"
                    )
