"""The CIFAR ResNets of He et al. 2015, section 4.2, with the structure and names of akamaster/pytorch_resnet_cifar10
(whose output layer `linear` is `head.out` here)."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Head, Model
from imgcls_jax.models import head as heads
from imgcls_jax.models import residual
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.initializers import kernel_init
from imgcls_jax.models.layers import BatchNorm, global_average_pool
from imgcls_jax.models.residual import BasicBranch, MakeConv, projection
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.catalog import Entry, Preprocessing
from imgcls_jax.weights.paths import in_order

Depth = Literal[20, 32, 44, 56, 110]
_DEPTHS: tuple[Depth, ...] = (20, 32, 44, 56, 110)
_REGISTERED = ("conv1", "bn1", "conv2", "bn2", "shortcut", "layer1", "layer2", "layer3", *heads.REGISTERED)


class CifarResNet(Model):
    """The CIFAR ResNets of He et al. 2015, section 4.2: depth 6n + 2, 16-32-64 channels."""

    depth: Depth
    """Number of layers."""
    head: Head
    """From the features to the logits."""
    shortcut: Literal["A", "B"] = "A"
    """"A": subsample and pad with zero channels; "B": 1×1 convolution with BatchNorm."""
    usual_size: ClassVar[int] = 32
    usual_classes: ClassVar[int] = 10
    stage_pattern: ClassVar[str] = r"layer\d"  # a layer is a stage, the stem another

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "CifarResNetModule":
        """Make the network; every image size from 1×1 up passes."""
        return CifarResNetModule(self, num_classes=num_classes, channels=channels, dtype=dtype, rngs=rngs)

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List the names of akamaster/pytorch_resnet_cifar10."""
        return (
            *t.rules(
                ("conv{}", "conv{}", t.CONV),
                ("bn{}", "bn{}", t.BATCH_NORM),
                ("layer{}.{}.conv{}", "layer{}.{}.conv{}", t.CONV),
                ("layer{}.{}.bn{}", "layer{}.{}.bn{}", t.BATCH_NORM),
                ("layer{}.{}.shortcut.0", "layer{}.{}.shortcut.0", t.CONV),
                ("layer{}.{}.shortcut.1", "layer{}.{}.shortcut.1", t.BATCH_NORM),
            ),
            *heads.torch_rules("linear", self.head),
        )

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as the original registers."""
        return in_order(paths, _REGISTERED)

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List the networks of the paper's table 6."""
        return {f"cifar_resnet{depth}": CifarResNet(depth, Head()) for depth in _DEPTHS}

    @classmethod
    def published(cls) -> Sequence[Entry]:
        """List the weights of akamaster/pytorch_resnet_cifar10, as its README has them."""
        return (
            _published(20, "12fca82f", 269_722, 91.73),
            _published(44, "014dd654", 658_586, 93.10),
            _published(56, "4bfd9763", 853_018, 93.39),
        )


def _published(depth: int, sha256: str, num_params: int, top1: float) -> Entry:
    return Entry(
        f"akamaster/resnet{depth}.CIFAR10",
        f"cifar_resnet{depth}",
        f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/resnet{depth}-{sha256}.th",
        sha256,
        Preprocessing(None, 32, "none"),
        top1,
        None,
        "CIFAR-10",
        num_params,
        head=True,
        license="BSD-2-Clause (akamaster/pytorch_resnet_cifar10)",
    )


class Block(BasicBranch):
    """Two 3×3 convolutions, the first of which carries the stride, added to the shortcut, then ReLU."""

    def __init__(self, in_features: int, features: int, *, stride: int, option: str, conv: MakeConv):
        """`option`: "A" or "B", the shortcut where the shape changes."""
        super().__init__(in_features, features, stride=stride, conv=conv)
        self.stride = stride
        self.zeros = features - in_features
        self.shortcut = projection(in_features, features, stride, conv) if option == "B" and self.zeros else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        branch = self.branch(x)
        if self.shortcut is not None:
            for layer in self.shortcut:
                x = layer(x)
        elif self.zeros:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.zeros // 2, self.zeros // 2)))
        return jax.nn.relu(branch + x)


class CifarResNetModule(nnx.Module):
    """A 3×3 stem, three layers of n blocks with 16, 32 and 64 channels, global average pooling and a head."""

    def __init__(
        self,
        config: CifarResNet,
        *,
        num_classes: int,
        channels: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = _conv(dtype, rngs)
        self.conv1 = conv(channels, 16, 3)
        self.bn1 = BatchNorm(16)
        in_features = 16
        for stage, features in enumerate((16, 32, 64)):
            layer: nnx.List[Block] = nnx.List()
            for i in range((config.depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(Block(in_features, features, stride=stride, option=config.shortcut, conv=conv))
                in_features = features
            setattr(self, f"layer{stage + 1}", layer)
        self.head = HeadModule(64, config.head, num_classes=num_classes, init="kaiming_normal", dtype=dtype, rngs=rngs)

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


def _conv(dtype: DTypeLike, rngs: nnx.Rngs) -> MakeConv:
    """Make convolutions that start Kaiming-normal by their inputs."""
    return partial(residual.conv, kernel_initializer=kernel_init("kaiming_normal"), dtype=dtype, rngs=rngs)
