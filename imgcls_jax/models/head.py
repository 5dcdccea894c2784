"""Heads: from a feature vector to logits, and torch's names of their layers."""

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Dense, Head, Init
from imgcls_jax.errors import UserError
from imgcls_jax.models.layers import BatchNorm, activation, at_least_float32, linear
from imgcls_jax.weights import torch_names as t

REGISTERED = ("linear", "norm", "head", "hidden", "out", "kernel", "scale", "gamma", "bias", "mean", "var")
"""The end of a network's names in the order in which torch registers them: those of a head, and of single arrays."""

# What torch's networks call their output layer; each of these names is understood in every file.
_OUTPUTS = ("fc", "linear", "head", "classifier", "classifier.1", "linear_head")


class Hidden(nnx.Module):
    """linear → norm → activation → dropout."""

    def __init__(
        self,
        in_features: int,
        config: Dense,
        *,
        init: Init,
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


class HeadModule(nnx.Module):
    """dropout → [BatchNorm1d] → hidden layers → linear. The output layer computes in float32."""

    def __init__(
        self,
        in_features: int,
        config: Head,
        *,
        num_classes: int,
        init: Init = "torch",
        leaky_slope: float = 0.01,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.dropout = nnx.Dropout(config.dropout)
        self.norm = BatchNorm(in_features) if config.batch_norm else None
        self.hidden: nnx.List[Hidden] = nnx.List()
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


def output_size(config: Head, num_classes: int) -> int:
    """Return the number of logits: one per class, or a single one with `sigmoid`, which needs two classes."""
    if not config.sigmoid:
        return num_classes
    if num_classes != 2:
        raise UserError(
            f"model.head.sigmoid gives one logit for two classes, but the data has {num_classes}: set it to False"
        )
    return 1


def torch_rules(name: str, head: Head, channels: int | None = None) -> tuple[t.Rule, ...]:
    """List torch's names of a head that is called `name` there, such as "fc".

    A head of more than an output layer has no torch original: its layers are called `fc.norm`, `fc.hidden.0.linear`,
    `fc.hidden.0.norm` and `fc.out`.

    Args:
      name: what the torch network calls its output layer.
      head: the settings.
      channels: channels of the feature map that the head sees flattened; None: it sees a vector.
    """

    def kind(base: t.Kind, first: bool) -> t.Kind:
        if channels is None or not first:
            return base
        # In a linear layer the kernel's inputs are flattened and the bias is not; in a norm every array is.
        return {
            leaf: (ours, t.flattened(channels, layout) if base is not t.LINEAR or leaf == "weight" else layout)
            for leaf, (ours, layout) in base.items()
        }

    layers = [(f"{name}.norm", "head.norm", kind(t.BATCH_NORM, first=True))]
    for i in range(len(head.hidden)):
        layers += [
            (f"{name}.hidden.{i}.linear", f"head.hidden.{i}.linear", kind(t.LINEAR, first=i == 0)),
            (f"{name}.hidden.{i}.norm", f"head.hidden.{i}.norm", t.BATCH_NORM),
        ]
    plain = not head.hidden and not head.batch_norm
    outputs = dict.fromkeys([name if plain else f"{name}.out", name, *_OUTPUTS])
    layers += [(output, "head.out", kind(t.LINEAR, first=not head.hidden)) for output in outputs]
    return t.rules(*layers)
