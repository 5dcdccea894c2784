"""Plain convolutional networks, described layer by layer in the config."""

from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from imgcls_jax.config.model import Activation, Head, Init, Model, Positive, Rate
from imgcls_jax.config.registry import settings
from imgcls_jax.errors import UserError
from imgcls_jax.models import head as heads
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.layers import (
    BatchNorm,
    Conv2d,
    activation,
    dropout2d,
    global_average_pool,
    max_pool,
    pooled_size,
)
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.paths import in_order

_REGISTERED = ("convs", "conv", "bn", *heads.REGISTERED)


@settings
class Conv:
    """One convolution of a CNN: convolution → norm → activation → pooling → dropout."""

    channels: Positive
    """Output channels."""
    kernel: Positive
    """Side of the square kernel, pixels."""
    stride: Positive = field(default=1, kw_only=True)
    """Stride, pixels."""
    padding: Annotated[int, Field(ge=0)] = field(default=0, kw_only=True)
    """Zeros added on each side, pixels; 0 is a "valid" convolution."""
    norm: Literal["batch", "none"] = field(default="none", kw_only=True)
    """Normalization after the convolution; "batch" is BatchNorm2d."""
    activation: Activation = field(default="relu", kw_only=True)
    """Function after the normalization."""
    pool: Positive = field(default=1, kw_only=True)
    """Window and stride of the max pooling; 1: none. A remainder of rows or columns is dropped, as in torch."""
    dropout: Rate = field(default=0.0, kw_only=True)
    """Rate of the channel-wise dropout (torch's Dropout2d) after the pooling."""


class CNN(Model):
    """A plain stack of convolutions with a head."""

    convs: Annotated[tuple[Conv, ...], Field(min_length=1)]
    """The convolutions, from the image on."""
    aggregate: Literal["flatten", "average"]
    """How the last feature map becomes a vector: all of it, or each channel's average."""
    head: Head
    """From the features to the logits."""
    init: Init = "torch"
    """Initializer of every kernel; biases are zero except under "torch"."""
    leaky_slope: Annotated[float, Field(ge=0)] = 0.01
    """Slope of "leaky_relu" below zero."""
    stage_pattern: ClassVar[str] = r"convs\.\d+"  # a convolution is a stage

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "CNNModule":
        """Make the network; one that flattens its last map is bound to the image size.

        Raises:
          UserError: the images are too small for its layers.
        """
        return CNNModule(
            self, num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs
        )

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List names that follow our paths: no torch network is the original."""
        return (
            *t.rules(("convs.{}.conv", "convs.{}.conv", t.CONV), ("convs.{}.bn", "convs.{}.bn", t.BATCH_NORM)),
            *heads.torch_rules("head", self.head, self.convs[-1].channels if self.aggregate == "flatten" else None),
        )

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort from the image on."""
        return in_order(paths, _REGISTERED)


class ConvBlock(nnx.Module):
    """convolution → norm → activation → max pooling → channel-wise dropout. The convolution always has a bias."""

    def __init__(
        self,
        in_features: int,
        config: Conv,
        *,
        init: Init,
        leaky_slope: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv2d(
            in_features,
            config.channels,
            config.kernel,
            stride=config.stride,
            padding=config.padding,
            init=init,
            dtype=dtype,
            rngs=rngs,
        )
        self.bn = BatchNorm(config.channels) if config.norm == "batch" else None
        self.activation = activation(config.activation, leaky_slope)
        self.pool = config.pool
        self.dropout = dropout2d(config.dropout)

    def __call__(self, x: Float[Array, "b h w c"], rngs: nnx.Rngs | None) -> Float[Array, "b h2 w2 d"]:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        x = self.activation(x)
        if self.pool > 1:
            x = max_pool(x, self.pool)
        return self.dropout(x, rngs=rngs)


class CNNModule(nnx.Module):
    """A stack of `ConvBlock`s, flattened or averaged, and a head.

    A flattened map is in (row, column, channel) order; torch's is in (channel, row, column) order, so the rows of
    the first linear kernel are permuted when weights come from torch or go there.
    """

    def __init__(
        self,
        config: CNN,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        height, width = map_size(config, image_size)
        self.convs: nnx.List[ConvBlock] = nnx.List()
        for layer in config.convs:
            self.convs.append(
                ConvBlock(channels, layer, init=config.init, leaky_slope=config.leaky_slope, dtype=dtype, rngs=rngs)
            )
            channels = layer.channels
        self.flatten = config.aggregate == "flatten"
        self.head = HeadModule(
            channels * height * width if self.flatten else channels,
            config.head,
            num_classes=num_classes,
            init=config.init,
            leaky_slope=config.leaky_slope,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "convs.0" …, "flatten" or "average", "head" (the logits)."""
        maps = {}
        for i, block in enumerate(self.convs):
            maps[f"convs.{i}"] = x = block(x, rngs)
        if self.flatten:
            maps["flatten"] = x = x.reshape(x.shape[0], -1)
        else:
            maps["average"] = x = global_average_pool(x)
        maps["head"] = self.head(x, rngs)
        return maps


def map_size(config: CNN, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the last feature map; a `UserError` names the layer at which nothing is left."""
    size = image_size
    for i, layer in enumerate(config.convs):
        steps = (
            ("convolution", layer.kernel, layer.stride, layer.padding),
            ("pooling", layer.pool, layer.pool, 0),
        )
        for name, window, stride, padding in steps:
            height, width = (pooled_size(side, window, stride=stride, padding=padding) for side in size)
            if min(height, width) < 1:
                raise UserError(
                    f"model.convs[{i}]: the {name} of window {window} does not fit its input of {size[0]}×{size[1]} "
                    f"pixels (the image is {image_size[0]}×{image_size[1]}): use larger images, padding or fewer layers"
                )
            size = height, width
    return size
