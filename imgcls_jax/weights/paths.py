"""Handle parameter paths: nested dicts ↔ flat dicts, wildcards, and the order of registration."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from imgcls_jax.errors import did_you_mean


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


def hint(pattern: str, paths: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the path, or the "layer.*" above it, that `pattern` is a misspelling of."""
    paths = list(paths)
    layers = {path.rsplit(".", depth)[0]: None for path in paths for depth in range(1, path.count(".") + 1)}
    if pattern in layers:
        return f' (did you mean "{pattern}.*"?)'
    return did_you_mean(pattern, [*(f"{layer}.*" for layer in layers), *paths])


def in_order(paths: Iterable[str], names: Sequence[str]) -> list[str]:
    """Sort paths by their parts: numbers by their value, names in the order given.

    Example:
      >>> in_order(["fc.bias", "conv.0.kernel", "fc.kernel"], ["conv", "fc", "kernel", "bias"])
      ['conv.0.kernel', 'fc.kernel', 'fc.bias']
    """
    rank = {name: rank for rank, name in enumerate(names)}
    return sorted(paths, key=lambda path: [int(part) if part.isdigit() else rank[part] for part in path.split(".")])
