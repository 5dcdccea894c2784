"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and Wide ResNet-2 with torchvision's structure and names."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Head, Model, Rate
from imgcls_jax.models import head as heads
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.layers import BatchNorm, DropPath, global_average_pool, max_pool
from imgcls_jax.models.residual import BasicBranch, MakeConv, conv, projection
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.catalog import Entry, torchvision
from imgcls_jax.weights.paths import in_order
from imgcls_jax.weights.timm import Counterpart

Name = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
]  # fmt: skip


class Architecture(NamedTuple):
    """What tells the networks of the family apart."""

    bottleneck: bool
    blocks: tuple[int, int, int, int]
    """Blocks of each of the four layers."""
    groups: int = 1
    width_per_group: int = 64
    """Channels per group of layer1's 3×3 convolution; doubled in each next layer."""


_ARCHITECTURES: dict[Name, Architecture] = {
    "resnet18": Architecture(False, (2, 2, 2, 2)),
    "resnet34": Architecture(False, (3, 4, 6, 3)),
    "resnet50": Architecture(True, (3, 4, 6, 3)),
    "resnet101": Architecture(True, (3, 4, 23, 3)),
    "resnet152": Architecture(True, (3, 8, 36, 3)),
    "resnext50_32x4d": Architecture(True, (3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x8d": Architecture(True, (3, 4, 23, 3), groups=32, width_per_group=8),
    "resnext101_64x4d": Architecture(True, (3, 4, 23, 3), groups=64, width_per_group=4),
    "wide_resnet50_2": Architecture(True, (3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": Architecture(True, (3, 4, 23, 3), width_per_group=128),
}


# fmt: off
_REGISTERED = (
    "conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "layer1", "layer2", "layer3", "layer4", "downsample",
    *heads.REGISTERED,
)
# fmt: on


class ResNet(Model):
    """torchvision's ResNet family, ResNeXt and Wide ResNet-2 included."""

    name: Name
    """torchvision's name of the network."""
    head: Head
    """From the features to the logits."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """"imagenet": 7×7 convolution of stride 2 and 3×3 max pooling; "cifar": one 3×3 convolution of stride 1."""
    downsample_in: Literal["conv2", "conv1"] = "conv2"
    """Which convolution of a bottleneck carries the stride: the 3×3 (v1.5, as torchvision) or the first 1×1 (v1)."""
    zero_init_residual: bool = False
    """Start the last BatchNorm of every residual branch at scale zero."""
    stochastic_depth: Rate = 0.0
    """Drop rate of the last residual branch; it grows linearly from 0 at the first."""
    stage_pattern: ClassVar[str] = r"layer\d"  # a layer is a stage, the stem another

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "ResNetModule":
        """Make the network; every image size from 1×1 up passes."""
        return ResNetModule(self, num_classes=num_classes, channels=channels, dtype=dtype, rngs=rngs)

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List torchvision's names."""
        return (
            *t.rules(
                ("conv{}", "conv{}", t.CONV),
                ("bn{}", "bn{}", t.BATCH_NORM),
                ("layer{}.{}.conv{}", "layer{}.{}.conv{}", t.CONV),
                ("layer{}.{}.bn{}", "layer{}.{}.bn{}", t.BATCH_NORM),
                ("layer{}.{}.downsample.0", "layer{}.{}.downsample.0", t.CONV),
                ("layer{}.{}.downsample.1", "layer{}.{}.downsample.1", t.BATCH_NORM),
            ),
            *heads.torch_rules("fc", self.head),
        )

    def in_timm(self) -> Counterpart | None:
        """Return timm's network, whose names of both the network and its tensors are torchvision's."""
        same = self.stem == "imagenet" and self.downsample_in == "conv2"
        return Counterpart(self.name) if same else None

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as torchvision registers."""
        return in_order(paths, _REGISTERED)

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List torchvision's networks."""
        return {name: ResNet(name, Head()) for name in _ARCHITECTURES}

    @classmethod
    def published(cls) -> Sequence[Entry]:
        """List torchvision's weights."""
        return _PUBLISHED


class Block(nnx.Module):
    """What the two kinds of residual block share: branch + shortcut → ReLU."""

    downsample: nnx.List | None
    drop_path: DropPath

    def branch(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Compute what is added to the shortcut."""
        raise NotImplementedError

    def __call__(self, x: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b h2 w2 d"]:
        branch = self.drop_path(self.branch(x), rngs)
        if self.downsample is not None:
            for layer in self.downsample:
                x = layer(x)
        return jax.nn.relu(branch + x)


class BasicBlock(BasicBranch, Block):
    """Two 3×3 convolutions; the first carries the stride."""

    def __init__(self, in_features: int, features: int, *, stride: int, drop: float, dtype: DTypeLike, rngs: nnx.Rngs):
        make = partial(conv, dtype=dtype, rngs=rngs)
        super().__init__(in_features, features, stride=stride, conv=make)
        self.downsample = shortcut(in_features, features, stride, make)
        self.drop_path = DropPath(drop)


class Bottleneck(Block):
    """1×1, 3×3 and 1×1 convolutions; the last has four times `features` channels."""

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        stride: int,
        stride_in: str,
        groups: int,
        width: int,
        drop: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """`width`: channels of the 3×3 convolution; `stride_in`: "conv1" or "conv2"."""
        out = 4 * features
        stride1, stride2 = (stride, 1) if stride_in == "conv1" else (1, stride)
        self.conv1 = conv(in_features, width, 1, stride=stride1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3, stride=stride2, groups=groups, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.conv3 = conv(width, out, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(out)
        self.downsample = shortcut(in_features, out, stride, partial(conv, dtype=dtype, rngs=rngs))
        self.drop_path = DropPath(drop)

    def branch(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        x = self.bn1.rectified(self.conv1(x))
        x = self.bn2.rectified(self.conv2(x))
        return self.bn3(self.conv3(x))


class ResNetModule(nnx.Module):
    """A stem, four layers of residual blocks, global average pooling and a head."""

    def __init__(
        self,
        config: ResNet,
        *,
        num_classes: int,
        channels: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        architecture = _ARCHITECTURES[config.name]
        self.dtype = dtype
        self.pool_stem = config.stem == "imagenet"
        kernel, stride = (7, 2) if self.pool_stem else (3, 1)
        self.conv1 = conv(channels, 64, kernel, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(64)

        last_block = sum(architecture.blocks) - 1
        in_features, index = 64, 0
        for stage, blocks in enumerate(architecture.blocks):
            layer: nnx.List[Block] = nnx.List()
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                drop = config.stochastic_depth * index / last_block
                layer.append(_block(config, in_features, stage, stride=stride, drop=drop, dtype=dtype, rngs=rngs))
                in_features = 64 * 2**stage * (4 if architecture.bottleneck else 1)
                index += 1
            setattr(self, f"layer{stage + 1}", layer)
        self.head = HeadModule(in_features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order, under torchvision's module names: "conv1", "bn1", "relu", "maxpool"
        (with the ImageNet stem), "layer1.0" …, "avgpool", and "head" (the logits)."""
        maps = {}
        maps["conv1"] = x = self.conv1(x)
        maps["bn1"] = x = self.bn1(x)
        maps["relu"] = x = jax.nn.relu(x)
        if self.pool_stem:
            maps["maxpool"] = x = max_pool(x, 3, stride=2, padding=1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            for i, block in enumerate(getattr(self, stage)):
                maps[f"{stage}.{i}"] = x = block(x, rngs)
        maps["avgpool"] = x = global_average_pool(x)
        maps["head"] = self.head(x, rngs)
        return maps


def _block(
    config: ResNet, in_features: int, stage: int, *, stride: int, drop: float, dtype: DTypeLike, rngs: nnx.Rngs
) -> Block:
    """Make a block of the layer of index `stage`."""
    architecture = _ARCHITECTURES[config.name]
    features = 64 * 2**stage
    block: Block
    if architecture.bottleneck:
        block = bottleneck = Bottleneck(
            in_features,
            features,
            stride=stride,
            stride_in=config.downsample_in,
            groups=architecture.groups,
            width=architecture.width_per_group * 2**stage * architecture.groups,
            drop=drop,
            dtype=dtype,
            rngs=rngs,
        )
        last_norm = bottleneck.bn3
    else:
        block = basic = BasicBlock(in_features, features, stride=stride, drop=drop, dtype=dtype, rngs=rngs)
        last_norm = basic.bn2
    if config.zero_init_residual and last_norm.scale is not None:
        last_norm.scale[...] = jnp.zeros_like(last_norm.scale[...])
    return block


def shortcut(in_features: int, out_features: int, stride: int, conv: MakeConv) -> nnx.List | None:
    """Make a projection where the branch changes the shape, else None for the identity."""
    if stride == 1 and in_features == out_features:
        return None
    return projection(in_features, out_features, stride, conv)


_V1, _V2 = "IMAGENET1K_V1", "IMAGENET1K_V2"
# As torchvision's WeightsEnum has them.
_PUBLISHED = (
    torchvision("resnet18", _V1, "f37072fd", 256, 11_689_512, 69.758, 89.078),
    torchvision("resnet34", _V1, "b627a593", 256, 21_797_672, 73.314, 91.420),
    torchvision("resnet50", _V1, "0676ba61", 256, 25_557_032, 76.130, 92.862),
    torchvision("resnet50", _V2, "11ad3fa6", 232, 25_557_032, 80.858, 95.434),
    torchvision("resnet101", _V1, "63fe2227", 256, 44_549_160, 77.374, 93.546),
    torchvision("resnet101", _V2, "cd907fc2", 232, 44_549_160, 81.886, 95.780),
    torchvision("resnet152", _V1, "394f9c45", 256, 60_192_808, 78.312, 94.046),
    torchvision("resnet152", _V2, "f82ba261", 232, 60_192_808, 82.284, 96.002),
    torchvision("resnext50_32x4d", _V1, "7cdf4587", 256, 25_028_904, 77.618, 93.698),
    torchvision("resnext50_32x4d", _V2, "1a0047aa", 232, 25_028_904, 81.198, 95.340),
    torchvision("resnext101_32x8d", _V1, "8ba56ff5", 256, 88_791_336, 79.312, 94.526),
    torchvision("resnext101_32x8d", _V2, "110c445d", 232, 88_791_336, 82.834, 96.228),
    torchvision("resnext101_64x4d", _V1, "173b62eb", 232, 83_455_272, 83.246, 96.454),
    torchvision("wide_resnet50_2", _V1, "95faca4d", 256, 68_883_240, 78.468, 94.086),
    torchvision("wide_resnet50_2", _V2, "9ba9bcbe", 232, 68_883_240, 81.602, 95.758),
    torchvision("wide_resnet101_2", _V1, "32ee1156", 256, 126_886_696, 78.848, 94.284),
    torchvision("wide_resnet101_2", _V2, "d733dc28", 232, 126_886_696, 82.510, 96.020),
)
