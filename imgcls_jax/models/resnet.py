"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and Wide ResNet-2 with torchvision's structure and names."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.models.head import Head
from imgcls_jax.models.init import kaiming_normal_fan_out
from imgcls_jax.models.layers import BatchNorm, Conv, DropPath, global_average_pool, max_pool


class Architecture(NamedTuple):
    """What tells the networks of the family apart."""

    bottleneck: bool
    blocks: tuple[int, int, int, int]
    """Blocks of each of the four layers."""
    groups: int = 1
    width_per_group: int = 64
    """Channels a group of layer1's 3×3 convolution; doubled in each next layer."""


ARCHITECTURES = {
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


class Block(nnx.Module):
    """What the two kinds of residual block share: branch + shortcut → ReLU."""

    downsample: nnx.List | None
    drop_path: DropPath

    def branch(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError

    def __call__(self, x: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b h2 w2 d"]:
        branch = self.drop_path(self.branch(x), rngs)
        if self.downsample is not None:
            for layer in self.downsample:
                x = layer(x)
        return jax.nn.relu(branch + x)


class BasicBlock(Block):
    """Two 3×3 convolutions; the first carries the stride."""

    def __init__(self, in_features: int, features: int, *, stride: int, drop: float, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv1 = conv(in_features, features, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(features)
        self.conv2 = conv(features, features, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(features)
        self.downsample = shortcut(in_features, features, stride=stride, dtype=dtype, rngs=rngs)
        self.drop_path = DropPath(drop)

    def branch(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


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
        self.downsample = shortcut(in_features, out, stride=stride, dtype=dtype, rngs=rngs)
        self.drop_path = DropPath(drop)

    def branch(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        x = jax.nn.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class ResNet(nnx.Module):
    """A stem, four layers of residual blocks, global average pooling and a head."""

    def __init__(
        self,
        config: cfg.ResNet,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        del image_size  # every size from 1×1 up passes
        architecture = ARCHITECTURES[config.name]
        self.dtype = dtype
        self.pool_stem = config.stem == "imagenet"
        kernel, stride = (7, 2) if self.pool_stem else (3, 1)
        self.conv1 = conv(channels, 64, kernel, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(64)

        last_block = sum(architecture.blocks) - 1
        in_features, index = 64, 0
        for stage, blocks in enumerate(architecture.blocks):
            features = 64 * 2**stage
            layer = nnx.List()
            for i in range(blocks):
                common = dict(
                    stride=2 if stage > 0 and i == 0 else 1,
                    drop=config.stochastic_depth * index / last_block,
                    dtype=dtype,
                    rngs=rngs,
                )
                if architecture.bottleneck:
                    width = architecture.width_per_group * 2**stage * architecture.groups
                    block = Bottleneck(
                        in_features,
                        features,
                        stride_in=config.downsample_in,
                        groups=architecture.groups,
                        width=width,
                        **common,
                    )
                    in_features = 4 * features
                else:
                    block = BasicBlock(in_features, features, **common)
                    in_features = features
                if config.zero_init_residual:
                    last_norm = block.bn3 if architecture.bottleneck else block.bn2
                    last_norm.scale[...] = jnp.zeros_like(last_norm.scale[...])
                layer.append(block)
                index += 1
            setattr(self, f"layer{stage + 1}", layer)
        self.head = Head(in_features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

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


def conv(
    in_features: int,
    out_features: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> Conv:
    """An odd convolution that keeps the size but for the stride, without bias, with torchvision's initialiser."""
    return Conv(
        in_features,
        out_features,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
        kernel_initializer=kaiming_normal_fan_out,
        dtype=dtype,
        rngs=rngs,
    )


def shortcut(in_features: int, out_features: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.List | None:
    """A 1×1 convolution and BatchNorm where the branch changes the shape, else None for the identity."""
    if stride == 1 and in_features == out_features:
        return None
    return nnx.List(
        [conv(in_features, out_features, 1, stride=stride, dtype=dtype, rngs=rngs), BatchNorm(out_features)]
    )
