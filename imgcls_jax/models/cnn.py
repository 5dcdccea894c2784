"""Plain convolutional networks, described layer by layer in the config."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.errors import UserError
from imgcls_jax.models.head import Head
from imgcls_jax.models.layers import BatchNorm, Conv, activation, dropout2d, global_average_pool, max_pool, pooled_size


class ConvBlock(nnx.Module):
    """convolution → norm → activation → max pooling → channel-wise dropout. The convolution always has a bias."""

    def __init__(
        self,
        in_features: int,
        config: cfg.Conv,
        *,
        init: cfg.Init,
        leaky_slope: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
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


class CNN(nnx.Module):
    """A stack of `ConvBlock`s, flattened or averaged, and a head.

    A flattened map is in (row, column, channel) order; torch's is in (channel, row, column) order, so the rows of
    the first linear kernel are permuted when weights come from torch or go there.
    """

    def __init__(
        self,
        config: cfg.CNN,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        height, width = map_size(config, image_size)
        self.convs = nnx.List()
        for layer in config.convs:
            self.convs.append(
                ConvBlock(channels, layer, init=config.init, leaky_slope=config.leaky_slope, dtype=dtype, rngs=rngs)
            )
            channels = layer.channels
        self.flatten = config.aggregate == "flatten"
        self.head = Head(
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


def map_size(config: cfg.CNN, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the last feature map; a `UserError` names the layer at which nothing is left."""
    size = image_size
    for i, layer in enumerate(config.convs):
        steps = (
            ("convolution", layer.kernel, layer.stride, layer.padding),
            ("pooling", layer.pool, layer.pool, 0),
        )
        for name, window, stride, padding in steps:
            out = tuple(pooled_size(side, window, stride=stride, padding=padding) for side in size)
            if min(out) < 1:
                raise UserError(
                    f"model.convs[{i}]: the {name} of window {window} does not fit its input of {size[0]}×{size[1]} "
                    f"pixels (the image is {image_size[0]}×{image_size[1]}): use larger images, padding or fewer layers"
                )
            size = out
    return size
