"""Building blocks with torch's semantics on NHWC arrays."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from imgcls_jax.config.model import Activation, Init
from imgcls_jax.errors import UserError
from imgcls_jax.models.initializers import bias_init, kernel_init
from imgcls_jax.xla import norm, pooling, target
from imgcls_jax.xla.conv import conv


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """The dtype in which sums are taken and logits computed: float32, or float64 where activations are (in tests)."""
    return jnp.promote_types(dtype, jnp.float32)


def leaky_relu(x: Shaped[Array, "..."], slope: float) -> Shaped[Array, "..."]:
    """x where it is positive, slope · x elsewhere. The derivative at 0 is the slope, as in torch."""
    return jnp.where(x > 0, x, slope * x)


def activation(name: Activation, leaky_slope: float = 0.01) -> Callable[[jax.Array], jax.Array]:
    """The elementwise function of that name; "gelu" is the exact one (erf), as torch's default."""
    functions = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda x: leaky_relu(x, leaky_slope),
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "silu": jax.nn.silu,
        "none": lambda x: x,
    }
    return functions[name]


class Conv2d(nnx.Module):
    """A 2-D convolution with torch's defaults: `padding` zeros on every side, and torch's initializers.

    Strided convolutions pad both sides alike, unlike "SAME". `kernel` has shape
    [kernel, kernel, in_features / groups, out_features].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        init: Init = "torch",
        kernel_initializer: nnx.Initializer | None = None,
        bias_initializer: nnx.Initializer | None = None,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, in_features // groups, out_features)
        kernel_initializer = kernel_initializer or kernel_init(init)
        self.kernel = nnx.Param(kernel_initializer(rngs.params(), shape))
        bias_initializer = bias_initializer or bias_init(init, math.prod(shape[:3]))
        self.bias = nnx.Param(bias_initializer(rngs.params(), (out_features,))) if bias else None
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        kernel = self.kernel[...].astype(self.dtype)
        y = conv(x.astype(self.dtype), kernel, self.stride, self.padding, self.groups)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


def linear(
    in_features: int, out_features: int, *, init: Init = "torch", dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer with the named initializers. The kernel has shape [in_features, out_features]."""
    return nnx.Linear(
        in_features,
        out_features,
        dtype=dtype,
        kernel_init=kernel_init(init),
        bias_init=bias_init(init, in_features),
        rngs=rngs,
    )


class BatchNorm(nnx.Module):
    """torch's BatchNorm1d and BatchNorm2d: statistics of each channel (the last axis) over all other axes.

    Two switches, set by `nnx.view(model, use_running_average=…, update_running=…)`, act apart from each other and
    from whether `scale` and `bias` train:

    - `use_running_average`: normalize by the running statistics instead of the batch's;
    - `update_running`: move the running statistics towards the batch's.

    Training is (False, True), evaluation (True, False). flax's own BatchNorm couples the two and keeps the biased
    variance; torch normalizes by the biased variance but keeps the unbiased one. Statistics are computed in float32,
    in one pass over the input; the output has the input's dtype. Under `jit` with a sharded batch the statistics are
    those of the global batch.

    A third switch, `batch_groups`, divides the batch into so many equal groups of neighbors, each of which is
    normalized by its own statistics; the running ones then move towards the groups' average. A group that lies on one
    device is computed there alone.
    """

    def __init__(self, features: int, *, momentum: float = 0.1, epsilon: float = 1e-5, use_scale: bool = True):
        """`momentum`: the share of the batch's statistics in the new running ones (torch's convention)."""
        self.scale = nnx.Param(jnp.ones(features)) if use_scale else None
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = False
        self.update_running = True
        self.batch_groups = 1

    def set_view(
        self,
        use_running_average: bool | None = None,
        update_running: bool | None = None,
        batch_groups: int | None = None,
    ) -> None:
        """Called by `nnx.view`; None leaves a switch as it is."""
        if use_running_average is not None:
            self.use_running_average = use_running_average
        if update_running is not None:
            self.update_running = update_running
        if batch_groups is not None:
            self.batch_groups = batch_groups

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        return self._in_groups(x, self._normalize)

    def rectified(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        """Normalize and take the positive part: in one, where a GPU trains, which moves fewer bytes; else one after the
        other, so that who watches the calls of layers sees this one."""
        training = self.update_running and not self.use_running_average
        if training and target.current().is_gpu and x.dtype != jnp.float64:
            return self._in_groups(x, self._normalize_and_rectify)
        return jax.nn.relu(self(x))

    def _in_groups(
        self,
        x: Float[Array, "*batch c"],
        normalize: Callable[[Float[Array, "*batch c"], tuple[int, ...]], Float[Array, "*batch c"]],
    ) -> Float[Array, "*batch c"]:
        """Call `normalize` with the axes of its sums: all but the channels', and the groups' where there are any."""
        if self.batch_groups == 1:
            return normalize(x, tuple(range(x.ndim - 1)))
        if x.shape[0] % self.batch_groups:
            raise UserError(
                f"BatchNorm cannot share an input of {x.shape[0]} rows equally among {self.batch_groups} groups: "
                "leave bn_group out"
            )
        # Split where the devices split the batch: the sums within a group of one device need no other one.
        grouped = x.reshape(self.batch_groups, -1, *x.shape[1:])
        return normalize(grouped, tuple(range(1, x.ndim))).reshape(x.shape)

    def _normalize_and_rectify(self, x: Float[Array, "*batch c"], axes: tuple[int, ...]) -> Float[Array, "*batch c"]:
        count, grouped = self._count(x, axes), self.batch_groups > 1
        scale = None if self.scale is None else self.scale[...]
        y, mean, var = norm.norm_relu(x, (scale, self.bias[...]), axes, grouped, self.epsilon)
        self._update(mean, var, count)
        return y

    def _normalize(self, x: Float[Array, "*batch c"], axes: tuple[int, ...]) -> Float[Array, "*batch c"]:
        count, grouped = self._count(x, axes), self.batch_groups > 1
        x32 = x.astype(at_least_float32(x.dtype))
        mean, var = self.mean[...], self.var[...]
        if self.update_running or not self.use_running_average:
            batch_mean = x32.mean(axes, keepdims=grouped)
            # Rounding can make the difference of squares slightly negative.
            batch_var = jnp.maximum((x32 * x32).mean(axes, keepdims=grouped) - batch_mean * batch_mean, 0)
            if self.update_running:
                self._update(batch_mean, batch_var, count)
            if not self.use_running_average:
                mean, var = batch_mean, batch_var
        factor = lax.rsqrt(var + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale[...]
        return ((x32 - mean) * factor + self.bias[...]).astype(x.dtype)

    def _count(self, x: Float[Array, "*batch c"], axes: tuple[int, ...]) -> Any:
        """How many values of a channel are normalized together: an int, or an expression of a symbolic batch."""
        count = math.prod(x.shape[axis] for axis in axes)
        if not self.use_running_average and count == 1:
            raise UserError(
                "BatchNorm has one value of each channel here (a batch of one image, whose map is 1×1): normalized by "
                "themselves all of them are 0, and nothing is learned: raise batch_size, lower optim.accumulate, or "
                f"use no BatchNorm there{', or leave bn_group out' if self.batch_groups > 1 else ''}"
            )
        return count

    def _update(self, mean: Float[Array, "*groups c"], biased_var: Float[Array, "*groups c"], count: int) -> None:
        unbiased = biased_var * (count / max(count - 1, 1))
        for running, new in ((self.mean, mean), (self.var, unbiased)):
            if self.batch_groups > 1:
                new = new.reshape(self.batch_groups, -1).mean(0)
            running[...] = lax.stop_gradient((1 - self.momentum) * running[...] + self.momentum * new)


class DropPath(nnx.Module):
    """Stochastic depth (Huang et al. 2016): zeroes the whole branch of an example with probability `rate` and scales
    the survivors by 1 / (1 − rate); torchvision's `stochastic_depth(mode="row")`."""

    def __init__(self, rate: float):
        self.rate = rate
        self.deterministic = False

    def set_view(self, deterministic: bool | None = None) -> None:
        """Called by `nnx.view`; None leaves the mode as it is."""
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(self, x: Float[Array, "b ..."], rngs: nnx.Rngs | None) -> Float[Array, "b ..."]:
        """`rngs` is needed unless `deterministic` or the rate is 0."""
        if self.deterministic or self.rate == 0:
            return x
        if rngs is None:
            raise ValueError("DropPath in training mode needs rngs")
        survives = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, (x.shape[0], *(1,) * (x.ndim - 1)))
        return jnp.where(survives, x / (1 - self.rate), 0)


def dropout2d(rate: float) -> nnx.Dropout:
    """torch's Dropout2d: drops whole channels of a [b, h, w, c] map."""
    return nnx.Dropout(rate, broadcast_dims=(1, 2))


def max_pool(
    x: Float[Array, "b h w c"], window: int, *, stride: int | None = None, padding: int = 0, ceil_mode: bool = False
) -> Float[Array, "b h2 w2 c"]:
    """torch's MaxPool2d: padding is −∞; the stride is the window unless given.

    `ceil_mode` keeps a last window that hangs over the edge; otherwise the remainder is dropped.
    """
    stride = stride or window

    def pads(size: int) -> tuple[int, int]:
        out = pooled_size(size, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
        return padding, max((out - 1) * stride + window - size - padding, 0)

    return pooling.max_pool(x, window, stride, (pads(x.shape[1]), pads(x.shape[2])))


def pooled_size(size: int, window: int, *, stride: int, padding: int = 0, ceil_mode: bool = False) -> int:
    """Side of a convolution's or pooling's output; below 1 if the input is too small."""
    room = size + 2 * padding - window
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    # A window may hang over the edge, but must start inside the input or its left padding.
    return out - 1 if (out - 1) * stride >= size + padding else out


def global_average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """Each channel's average, summed in float32, in the input's dtype."""
    return x.mean((1, 2), dtype=at_least_float32(x.dtype)).astype(x.dtype)
