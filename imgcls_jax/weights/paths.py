"""Parameter paths: nested dicts ↔ flat dicts, wildcards, torch's order, and stages."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from imgcls_jax.config.model import Model

HEAD = "head."
"""What every path of a head starts with."""


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"layer1": {0: {"kernel": x}}} → {"layer1.0.kernel": x}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def map_tree(function: Callable[[str, Any], Any], tree: Mapping, prefix: str = "") -> dict:
    """The same nested dict (integer keys stay integers) with function(path, leaf) in place of each leaf."""
    return {
        key: map_tree(function, value, f"{prefix}{key}.")
        if isinstance(value, Mapping)
        else function(f"{prefix}{key}", value)
        for key, value in tree.items()
    }


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether any of the shell wildcards covers the whole path ("*" also covers dots)."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def nearest(pattern: str, paths: Iterable[str]) -> str:
    """The path, or "layer.*" above it, that looks most like the pattern."""
    paths = list(paths)
    above = {path.rsplit(".", depth)[0] + ".*" for path in paths for depth in range(1, path.count(".") + 1)}
    candidates = sorted(above, key=len) + paths
    return next(iter(difflib.get_close_matches(pattern, candidates, 1, 0.0)), "*")


# The order in which the torch models register their children and parameters; children not listed here are numbers.
# fmt: off
_REGISTERED = (
    "cls_token", "pos_embed", "register_tokens", "patch_embed", "whiten",
    "conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "shortcut", "layer1", "layer2", "layer3", "layer4", "downsample",
    "features", "squeeze", "expand1x1", "expand3x3", "convs", "conv", "bn",
    "blocks", "norm1", "attn", "qkv", "proj", "ls1", "norm2", "mlp", "fc1", "fc2", "ls2",
    "linear", "norm", "head", "hidden", "out", "kernel", "scale", "gamma", "bias", "mean", "var",
)
# fmt: on
_RANK = {name: rank for rank, name in enumerate(_REGISTERED)}

# Which parts of a backbone are stages of its layer-wise learning rate. What comes before the first is a stage by
# itself; a norm after the last belongs to the last.
_STAGES = {
    "cnn": r"convs\.\d+",
    "resnet": r"layer\d",
    "cifar_resnet": r"layer\d",
    "wide_resnet": r"layer\d",
    "squeezenet": r"features\.\d+",
    "airbench": r"layer\d",
    "dinov2": r"blocks\.\d+",
}


def torch_order(model: Model, paths: Iterable[str]) -> list[str]:
    """Paths in the order of the torch model's `parameters()`, the head last."""
    rank = _RANK
    if model.family == "wide_resnet":  # pre-activation: each norm comes before its convolution, and one at the end
        rank = _RANK | {"bn1": _RANK["conv1"], "conv1": _RANK["bn1"], "bn2": _RANK["conv2"], "conv2": _RANK["bn2"]}

    def key(path: str) -> list[int]:
        if model.family == "wide_resnet" and path.startswith("bn1."):
            path = path.replace("bn1", "norm")
        return [int(part) if part.isdigit() else rank[part] for part in path.split(".")]

    return sorted(paths, key=key)


def stages(model: Model, ordered: Sequence[str]) -> dict[str, int]:
    """Each path's stage: the head is 0, the backbone's last stage 1, and so on up to the image."""
    pattern = re.compile(_STAGES[model.family])
    names: dict[str, int] = {}
    index = {}
    for path in ordered:
        if path.startswith(HEAD):
            continue
        if match := pattern.match(path):
            names.setdefault(match[0], len(names) + 1)
        index[path] = names[match[0]] if match else len(names)
    return {path: len(names) + 1 - index[path] if path in index else 0 for path in ordered}
