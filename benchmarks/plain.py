"""The peer of P9 and P10: a training step as a good tutorial of flax has it, of nnx's own layers and nothing of ours.

Parameters are float32, activations bfloat16; images come as uint8 and are normalized in the step; SGD with momentum.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.cifar10 import MEAN, STD

DTYPE = jnp.bfloat16


class ConvNorm(nnx.Module):
    """A convolution without bias, padded as torch pads, and its BatchNorm."""

    def __init__(self, features: int, out: int, kernel: int, stride: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            features,
            out,
            (kernel, kernel),
            strides=stride,
            padding=kernel // 2,
            use_bias=False,
            dtype=DTYPE,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(out, momentum=0.9, dtype=DTYPE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Block(nnx.Module):
    """A residual block: two 3×3 convolutions, or 1×1, 3×3 and 1×1 ones of which the last is four times as wide."""

    def __init__(self, features: int, width: int, stride: int, bottleneck: bool, rngs: nnx.Rngs):
        out = 4 * width if bottleneck else width
        sizes = (
            [(features, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            if bottleneck
            else [(features, width, 3, stride), (width, out, 3, 1)]
        )
        self.layers = nnx.List([ConvNorm(*size, rngs) for size in sizes])
        self.shortcut = ConvNorm(features, out, 1, stride, rngs) if stride > 1 or features != out else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for layer in self.layers[:-1]:
            y = nnx.relu(layer(y))
        return nnx.relu(self.layers[-1](y) + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """ResNet-18 with a stem for small images, or ResNet-50."""

    def __init__(self, name: str, classes: int, rngs: nnx.Rngs):
        self.small, bottleneck = name == "resnet18", name == "resnet50"
        self.stem = ConvNorm(3, 64, *((3, 1) if self.small else (7, 2)), rngs)
        blocks, features = [], 64
        for stage, count in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Block(features, 64 * 2**stage, stride, bottleneck, rngs))
                features = 64 * 2**stage * (4 if bottleneck else 1)
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(features, classes, dtype=DTYPE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        if not self.small:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class CNN(nnx.Module):
    """Three convolutions, each with its pooling, and two linear layers."""

    def __init__(self, size: int, classes: int, rngs: nnx.Rngs):
        widths = (3, 32, 64, 128)
        pairs = zip(widths, widths[1:], strict=False)
        self.convs = nnx.List([nnx.Conv(a, b, (3, 3), padding=1, dtype=DTYPE, rngs=rngs) for a, b in pairs])
        self.hidden = nnx.Linear((size // 8) ** 2 * widths[-1], 256, dtype=DTYPE, rngs=rngs)
        self.head = nnx.Linear(256, classes, dtype=DTYPE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def step(model: str, size: int, classes: int) -> tuple[Any, Callable[[Any, jax.Array, jax.Array], Any]]:
    """The abstract state, and the function from (state, images uint8 [b, h, w, 3], labels [b]) to the state after."""

    def build() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return CNN(size, classes, rngs) if model == "cnn" else ResNet(model, classes, rngs)

    graph, params, stats = nnx.split(nnx.eval_shape(build), nnx.Param, nnx.BatchStat)
    params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
    optimizer = optax.sgd(0.01, momentum=0.9)
    state = params, stats, jax.eval_shape(optimizer.init, params)

    def train_step(state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        params, stats, momentum = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            module = nnx.merge(graph, params, stats)
            module.train()
            x = (images.astype(jnp.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
            logits = module(x.astype(DTYPE)).astype(jnp.float32)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, momentum = optimizer.update(grads, momentum, params)
        return (optax.apply_updates(params, updates), stats, momentum), loss

    return state, train_step
