"""Wide ResNet (Zagoruyko & Komodakis 2016) for small images: pre-activation blocks of two 3×3 convolutions."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.errors import UserError
from imgcls_jax.models.head import Head
from imgcls_jax.models.layers import BatchNorm, global_average_pool
from imgcls_jax.models.resnet import conv


class Block(nnx.Module):
    """BN → ReLU → convolution → BN → ReLU → dropout → convolution, added to the shortcut.

    Where the shape changes, the shortcut is a 1×1 convolution of the activated input, as in the authors' code.
    """

    def __init__(
        self, in_features: int, features: int, *, stride: int, dropout: float, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.bn1 = BatchNorm(in_features)
        self.conv1 = conv(in_features, features, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(features)
        self.dropout = nnx.Dropout(dropout)
        self.conv2 = conv(features, features, 3, dtype=dtype, rngs=rngs)
        same_shape = stride == 1 and in_features == features
        self.shortcut = None if same_shape else conv(in_features, features, 1, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b h2 w2 d"]:
        activated = jax.nn.relu(self.bn1(x))
        branch = jax.nn.relu(self.bn2(self.conv1(activated)))
        branch = self.conv2(self.dropout(branch, rngs=rngs))
        return branch + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nnx.Module):
    """A 3×3 stem, three layers of n blocks with 16, 32 and 64 times `width` channels, BN, pooling and a head."""

    def __init__(
        self,
        config: cfg.WideResNet,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        del image_size  # every size from 1×1 up passes
        if (config.depth - 4) % 6:
            raise UserError(f"model.depth of a wide ResNet is 6n + 4 (10, 16, 22, 28, 40 …), not {config.depth}")
        self.conv1 = conv(channels, 16, 3, dtype=dtype, rngs=rngs)
        in_features = 16
        for stage in range(3):
            features = 16 * 2**stage * config.width
            layer = nnx.List()
            for i in range((config.depth - 4) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(
                    Block(in_features, features, stride=stride, dropout=config.dropout, dtype=dtype, rngs=rngs)
                )
                in_features = features
            setattr(self, f"layer{stage + 1}", layer)
        self.bn1 = BatchNorm(in_features)
        self.head = Head(in_features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "conv1", "layer1.0" …, "bn1", "relu", "avgpool", "head" (the logits)."""
        maps = {}
        maps["conv1"] = x = self.conv1(x)
        for stage in ("layer1", "layer2", "layer3"):
            for i, block in enumerate(getattr(self, stage)):
                maps[f"{stage}.{i}"] = x = block(x, rngs)
        maps["bn1"] = x = self.bn1(x)
        maps["relu"] = x = jax.nn.relu(x)
        maps["avgpool"] = x = global_average_pool(x)
        maps["head"] = self.head(x, rngs)
        return maps
