"""From a feature vector to logits."""

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.errors import UserError
from imgcls_jax.models.layers import BatchNorm, activation, at_least_float32, linear


class Hidden(nnx.Module):
    """linear → norm → activation → dropout."""

    def __init__(
        self,
        in_features: int,
        config: cfg.Dense,
        *,
        init: cfg.Init,
        leaky_slope: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.linear = linear(in_features, config.features, init=init, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(config.features) if config.norm == "batch" else None
        self.activation = activation(config.activation, leaky_slope)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(self, x: Float[Array, "b c"], rngs: nnx.Rngs | None) -> Float[Array, "b d"]:
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(self.activation(x), rngs=rngs)


class Head(nnx.Module):
    """dropout → [BatchNorm1d] → hidden layers → linear. The output layer computes in float32."""

    def __init__(
        self,
        in_features: int,
        config: cfg.Head,
        *,
        num_classes: int,
        init: cfg.Init = "torch",
        leaky_slope: float = 0.01,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.dropout = nnx.Dropout(config.dropout)
        self.norm = BatchNorm(in_features) if config.batch_norm else None
        self.hidden = nnx.List()
        for layer in config.hidden:
            self.hidden.append(Hidden(in_features, layer, init=init, leaky_slope=leaky_slope, dtype=dtype, rngs=rngs))
            in_features = layer.features
        outputs = output_size(config, num_classes)
        self.out = linear(in_features, outputs, init=init, dtype=at_least_float32(dtype), rngs=rngs)

    def __call__(self, x: Float[Array, "b c"], rngs: nnx.Rngs | None) -> Float[Array, "b outputs"]:
        x = self.dropout(x, rngs=rngs)
        if self.norm is not None:
            x = self.norm(x)
        for layer in self.hidden:
            x = layer(x, rngs)
        return self.out(x)


def output_size(config: cfg.Head, num_classes: int) -> int:
    """Number of logits: one a class, or one in all with `sigmoid`, which needs two classes."""
    if not config.sigmoid:
        return num_classes
    if num_classes != 2:
        raise UserError(
            f"model.head.sigmoid gives one logit for two classes, but the data has {num_classes}: set it to False"
        )
    return 1
