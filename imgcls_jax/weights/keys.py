"""One table a family: which torch name is which of our paths, and how the array's layout changes. Both directions of
the translation come from the same table.

torch's convolution kernels are [out, in, height, width] and ours [height, width, in, out]; its linear ones [out, in]
and ours [in, out]. A flattened feature map is (channel, row, column) in torch and (row, column, channel) here.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

import numpy as np

from imgcls_jax.config.model import CNN, Airbench, Head, Model, SqueezeNet

Change = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A change of layout and its inverse."""

    rank: int | None
    """Number of axes of the array; None: any."""
    to_ours: Change
    to_torch: Change


def _same(x: np.ndarray) -> np.ndarray:
    return x


SAME = Layout(None, _same, _same)
OIHW = Layout(4, lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
OUT_IN = Layout(2, np.transpose, np.transpose)


def flattened(channels: int, layout: Layout) -> Layout:
    """The layout of an array whose input (after the change: first) axis is a flattened map of that many channels."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        x = layout.to_ours(x)
        return x.reshape(channels, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

    def to_torch(x: np.ndarray) -> np.ndarray:
        return layout.to_torch(x.reshape(-1, channels, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape))

    return Layout(layout.rank, to_ours, to_torch)


# Kinds of layer: torch's name of a parameter or buffer → our name, and its layout.
Kind = dict[str, tuple[str, Layout]]
CONV: Kind = {"weight": ("kernel", OIHW), "bias": ("bias", SAME)}
LINEAR: Kind = {"weight": ("kernel", OUT_IN), "bias": ("bias", SAME)}
LAYER_NORM: Kind = {"weight": ("scale", SAME), "bias": ("bias", SAME)}
BATCH_NORM: Kind = LAYER_NORM | {"running_mean": ("mean", SAME), "running_var": ("var", SAME)}
LAYER_SCALE: Kind = {"gamma": ("gamma", SAME)}
VALUE: Kind = {"": ("", SAME)}

TRACKED = "num_batches_tracked"
"""A counter in torch's BatchNorm that nothing here needs: ignored on import, written on export."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One pair of names, with "{}" for each number, and the layout between them."""

    torch: str
    ours: str
    layout: Layout

    def path_of(self, name: str) -> str | None:
        """Our path for a torch name; None where the rule is another's."""
        return _rename(self.torch, self.ours, name)

    def name_of(self, path: str) -> str | None:
        """The torch name for a path of ours; None where the rule is another's."""
        return _rename(self.ours, self.torch, path)


def _rename(source: str, target: str, name: str) -> str | None:
    match = _pattern(source).fullmatch(name)
    return target.format(*match.groups()) if match else None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(map(re.escape, template.split("{}"))))


def _layers(*layers: tuple[str, str, Kind]) -> Iterator[Rule]:
    for torch, ours, kind in layers:
        for name, (leaf, layout) in kind.items():
            yield Rule(f"{torch}.{name}".rstrip("."), f"{ours}.{leaf}".rstrip("."), layout)


_RESNET = tuple(
    _layers(
        ("conv{}", "conv{}", CONV),
        ("bn{}", "bn{}", BATCH_NORM),
        ("layer{}.{}.conv{}", "layer{}.{}.conv{}", CONV),
        ("layer{}.{}.bn{}", "layer{}.{}.bn{}", BATCH_NORM),
        ("layer{}.{}.downsample.0", "layer{}.{}.downsample.0", CONV),
        ("layer{}.{}.downsample.1", "layer{}.{}.downsample.1", BATCH_NORM),
    )
)
# Names of akamaster/pytorch_resnet_cifar10.
_CIFAR_RESNET = (
    *_RESNET,
    *_layers(
        ("layer{}.{}.shortcut.0", "layer{}.{}.shortcut.0", CONV),
        ("layer{}.{}.shortcut.1", "layer{}.{}.shortcut.1", BATCH_NORM),
    ),
)
# Names of xternalz/WideResNet-pytorch, which RobustBench's models share.
_WIDE_RESNET = tuple(
    _layers(
        ("conv1", "conv1", CONV),
        ("block{}.layer.{}.bn{}", "layer{}.{}.bn{}", BATCH_NORM),
        ("block{}.layer.{}.conv{}", "layer{}.{}.conv{}", CONV),
        ("block{}.layer.{}.convShortcut", "layer{}.{}.shortcut", CONV),
        ("bn1", "bn1", BATCH_NORM),
    )
)
_SQUEEZENET = tuple(
    _layers(
        ("features.{}", "features.{}", CONV),
        ("features.{}.squeeze", "features.{}.squeeze", CONV),
        ("features.{}.expand{}x{}", "features.{}.expand{}x{}", CONV),
        ("classifier.1", "head.out", CONV),
    )
)
# Names of KellerJordan/cifar10-airbench.
_AIRBENCH = tuple(
    _layers(
        ("whiten", "whiten", CONV),
        ("layers.{}.conv{}", "layer{}.conv{}", CONV),
        ("layers.{}.norm{}", "layer{}.bn{}", BATCH_NORM),
        ("head", "head.out", LINEAR),
    )
)
# Names of facebookresearch/dinov2.
_DINOV2 = tuple(
    _layers(
        ("cls_token", "cls_token", VALUE),
        ("pos_embed", "pos_embed", VALUE),
        ("register_tokens", "register_tokens", VALUE),
        ("patch_embed.proj", "patch_embed.proj", CONV),
        ("blocks.{}.norm{}", "blocks.{}.norm{}", LAYER_NORM),
        ("blocks.{}.attn.qkv", "blocks.{}.attn.qkv", LINEAR),
        ("blocks.{}.attn.proj", "blocks.{}.attn.proj", LINEAR),
        ("blocks.{}.ls{}", "blocks.{}.ls{}", LAYER_SCALE),
        ("blocks.{}.mlp.fc{}", "blocks.{}.mlp.fc{}", LINEAR),
        ("norm", "norm", LAYER_NORM),
    )
)
_CNN = tuple(_layers(("convs.{}.conv", "convs.{}.conv", CONV), ("convs.{}.bn", "convs.{}.bn", BATCH_NORM)))

_BACKBONES = {
    "cnn": _CNN,
    "resnet": _RESNET,
    "cifar_resnet": _CIFAR_RESNET,
    "wide_resnet": _WIDE_RESNET,
    "squeezenet": _SQUEEZENET,
    "airbench": _AIRBENCH,
    "dinov2": _DINOV2,
}
# What the torch models call their output layer; on import, each of these names is understood in every family.
_HEADS = {"cnn": "head", "resnet": "fc", "cifar_resnet": "linear", "wide_resnet": "fc", "dinov2": "head"}
_OUTPUTS = ("fc", "linear", "head", "classifier", "classifier.1", "linear_head")


def rules(model: Model) -> tuple[Rule, ...]:
    """The family's table; the first rule that matches counts.

    A head of more than an output layer has no torch original: its layers are called `fc.norm`, `fc.hidden.0.linear`,
    `fc.hidden.0.norm` and `fc.out` (with `linear` or `head` where the family has that in place of `fc`).
    """
    backbone = _BACKBONES[model.family]
    if isinstance(model, SqueezeNet | Airbench):
        return backbone
    return (*backbone, *_head(_HEADS[model.family], model.head, _flattened_channels(model)))


def _flattened_channels(model: Model) -> int | None:
    return model.convs[-1].channels if isinstance(model, CNN) and model.aggregate == "flatten" else None


def _head(name: str, head: Head, channels: int | None) -> Iterator[Rule]:
    def kind(base: Kind, first: bool) -> Kind:
        if channels is None or not first:
            return base
        # In a linear layer the kernel's inputs are flattened and the bias is not; in a norm every array is.
        return {
            leaf: (ours, flattened(channels, layout) if base is not LINEAR or leaf == "weight" else layout)
            for leaf, (ours, layout) in base.items()
        }

    yield from _layers((f"{name}.norm", "head.norm", kind(BATCH_NORM, first=True)))
    for i in range(len(head.hidden)):
        yield from _layers(
            (f"{name}.hidden.{i}.linear", f"head.hidden.{i}.linear", kind(LINEAR, first=i == 0)),
            (f"{name}.hidden.{i}.norm", f"head.hidden.{i}.norm", BATCH_NORM),
        )
    plain = not head.hidden and not head.batch_norm
    outputs = dict.fromkeys([name if plain else f"{name}.out", *_OUTPUTS])
    yield from _layers(*((output, "head.out", kind(LINEAR, first=not head.hidden)) for output in outputs))


def ignored(model: Model, name: str) -> bool:
    """Whether a torch name has no place here on purpose: BatchNorm's counter, the token that stood for masked patches
    when DINOv2 was trained, and airbench's scales of BatchNorms, which are always 1."""
    surplus = {"dinov2": "mask_token", "airbench": r"layers\.\d+\.norm\d\.weight"}.get(model.family)
    return name.endswith(f".{TRACKED}") or (surplus is not None and re.fullmatch(surplus, name) is not None)
