"""Tables of names: which tensor of a torch file is which of our parameters, and how its layout changes.

Both directions of the translation come from the same table. A network's `torch_rules` gives its own:

    from imgcls_jax.weights import torch_names as t

    def torch_rules(self):
        return t.rules(("features.{}", "convs.{}", t.CONV), ("fc", "head.out", t.LINEAR))

torch's convolution kernels are [out, in, height, width] and ours [height, width, in, out]; its linear ones [out, in]
and ours [in, out]. A flattened feature map is (channel, row, column) in torch and (row, column, channel) here.
"""

import dataclasses
import functools
import re
from collections.abc import Callable

import numpy as np

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


Kind = dict[str, tuple[str, Layout]]
"""A kind of layer: torch's name of each parameter or buffer → our name, and the layout between them."""

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


def rules(*layers: tuple[str, str, Kind]) -> tuple[Rule, ...]:
    """Make the rules of layers, each given as torch's name, our path, and the kind of layer.

    "{}" stands for a number, the same on both sides.

    Example:
      >>> [(rule.torch, rule.ours) for rule in rules(("fc", "head.out", LINEAR))]
      [('fc.weight', 'head.out.kernel'), ('fc.bias', 'head.out.bias')]
    """
    return tuple(
        Rule(f"{torch}.{name}".rstrip("."), f"{ours}.{leaf}".rstrip("."), layout)
        for torch, ours, kind in layers
        for name, (leaf, layout) in kind.items()
    )
