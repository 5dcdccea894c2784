"""Wide ResNet (Zagoruyko & Komodakis 2016) for small images: pre-activation blocks of two 3×3 convolutions."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from imgcls_jax.config.model import Head, Model, Positive, Rate
from imgcls_jax.errors import UserError
from imgcls_jax.models import head as heads
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.layers import BatchNorm, global_average_pool
from imgcls_jax.models.residual import conv
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.paths import in_order

# Pre-activation: each norm comes before its convolution.
_REGISTERED = ("bn1", "conv1", "bn2", "conv2", "shortcut", "layer1", "layer2", "layer3", *heads.REGISTERED)


class WideResNet(Model):
    """Wide ResNet of Zagoruyko & Komodakis 2016, pre-activation; WRN-28-10 is depth 28, width 10."""

    depth: Annotated[int, Field(ge=10)]
    """Number of convolutions, 6n + 4."""
    width: Positive
    """Multiple of the 16-32-64 channels."""
    head: Head
    """From the features to the logits."""
    dropout: Rate = 0.0
    """Dropout rate between the two convolutions of a block."""
    usual_size: ClassVar[int] = 32
    usual_classes: ClassVar[int] = 10
    stage_pattern: ClassVar[str] = r"layer\d"  # a layer is a stage, the stem another

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "WideResNetModule":
        """Make the network; every image size from 1×1 up passes.

        Raises:
          UserError: there is no wide ResNet of that depth.
        """
        return WideResNetModule(self, num_classes=num_classes, channels=channels, dtype=dtype, rngs=rngs)

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List the names of xternalz/WideResNet-pytorch, which RobustBench's models share."""
        return (
            *t.rules(
                ("conv1", "conv1", t.CONV),
                ("block{}.layer.{}.bn{}", "layer{}.{}.bn{}", t.BATCH_NORM),
                ("block{}.layer.{}.conv{}", "layer{}.{}.conv{}", t.CONV),
                ("block{}.layer.{}.convShortcut", "layer{}.{}.shortcut", t.CONV),
                ("bn1", "bn1", t.BATCH_NORM),
            ),
            *heads.torch_rules("fc", self.head),
        )

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as the original registers: its last norm comes just before the head."""
        last = {path.replace("bn1.", "norm.", 1) if path.startswith("bn1.") else path: path for path in paths}
        return [last[path] for path in in_order(last, _REGISTERED)]

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List the network that the paper recommends."""
        return {"wrn28_10": WideResNet(28, 10, Head())}


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


class WideResNetModule(nnx.Module):
    """A 3×3 stem, three layers of n blocks with 16, 32 and 64 times `width` channels, BN, pooling and a head."""

    def __init__(
        self,
        config: WideResNet,
        *,
        num_classes: int,
        channels: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        if (config.depth - 4) % 6:
            raise UserError(f"model.depth of a wide ResNet is 6n + 4 (10, 16, 22, 28, 40 …), not {config.depth}")
        self.conv1 = conv(channels, 16, 3, dtype=dtype, rngs=rngs)
        in_features = 16
        for stage in range(3):
            features = 16 * 2**stage * config.width
            layer: nnx.List[Block] = nnx.List()
            for i in range((config.depth - 4) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(
                    Block(in_features, features, stride=stride, dropout=config.dropout, dtype=dtype, rngs=rngs)
                )
                in_features = features
            setattr(self, f"layer{stage + 1}", layer)
        self.bn1 = BatchNorm(in_features)
        self.head = HeadModule(in_features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

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
