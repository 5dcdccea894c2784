"""The CIFAR ResNets of He et al. 2015, section 4.2, with the structure and names of akamaster/pytorch_resnet_cifar10
(whose output layer `linear` is `head.out` here)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.models.head import Head
from imgcls_jax.models.layers import BatchNorm, Conv, global_average_pool


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions; the first carries the stride."""

    def __init__(self, in_features: int, features: int, *, stride: int, option: str, dtype: DTypeLike, rngs: nnx.Rngs):
        """`option`: "A" or "B", the shortcut where the shape changes."""
        self.stride = stride
        self.zeros = features - in_features
        self.conv1 = conv(in_features, features, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(features)
        self.conv2 = conv(features, features, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(features)
        self.shortcut = projection(in_features, features, stride, dtype, rngs) if option == "B" and self.zeros else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        branch = jax.nn.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        if self.shortcut is not None:
            for layer in self.shortcut:
                x = layer(x)
        elif self.zeros:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.zeros // 2, self.zeros // 2)))
        return jax.nn.relu(branch + x)


class CifarResNet(nnx.Module):
    """A 3×3 stem, three layers of n blocks with 16, 32 and 64 channels, global average pooling and a head."""

    def __init__(
        self,
        config: cfg.CifarResNet,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        del image_size  # every size from 1×1 up passes
        self.conv1 = conv(channels, 16, 3, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(16)
        in_features = 16
        for stage, features in enumerate((16, 32, 64)):
            layer = nnx.List()
            for i in range((config.depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(
                    BasicBlock(in_features, features, stride=stride, option=config.shortcut, dtype=dtype, rngs=rngs)
                )
                in_features = features
            setattr(self, f"layer{stage + 1}", layer)
        self.head = Head(64, config.head, num_classes=num_classes, init="kaiming_normal", dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "conv1", "bn1", "relu", "layer1.0" …, "avgpool", "head" (the logits)."""
        maps = {}
        maps["conv1"] = x = self.conv1(x)
        maps["bn1"] = x = self.bn1(x)
        maps["relu"] = x = jax.nn.relu(x)
        for stage in ("layer1", "layer2", "layer3"):
            for i, block in enumerate(getattr(self, stage)):
                maps[f"{stage}.{i}"] = x = block(x)
        maps["avgpool"] = x = global_average_pool(x)
        maps["head"] = self.head(x, rngs)
        return maps


def projection(in_features: int, out_features: int, stride: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.List:
    """The shortcut of option B: a 1×1 convolution and BatchNorm."""
    return nnx.List(
        [conv(in_features, out_features, 1, stride=stride, dtype=dtype, rngs=rngs), BatchNorm(out_features)]
    )


def conv(
    in_features: int, out_features: int, kernel: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs
) -> Conv:
    """A convolution of odd kernel that keeps the size but for the stride, without bias, Kaiming-normal (fan-in)."""
    return Conv(
        in_features,
        out_features,
        kernel,
        stride=stride,
        padding=kernel // 2,
        bias=False,
        init="kaiming_normal",
        dtype=dtype,
        rngs=rngs,
    )
