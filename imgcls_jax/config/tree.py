"""A config as plain dicts, lists, strings and numbers, and back."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from imgcls_jax.config.experiment import Config
from imgcls_jax.errors import UserError

_ADAPTER = TypeAdapter(Config)
# Larger whole numbers fit into no array.
_LARGEST = 2**63 - 1


def to_tree(config: Config) -> dict[str, Any]:
    """Return the config as plain dicts, lists, strings and numbers."""
    return _ADAPTER.dump_python(config, mode="json")


def from_tree(tree: Any) -> Config:
    """Make a config of what `to_tree` returned.

    Raises:
      pydantic.ValidationError: a setting is unknown, missing or wrong; `faults.explain` words it.
      UserError: a whole number does not fit into 64 bits.
    """
    config = _ADAPTER.validate_json(json.dumps(tree))
    for path, value in leaves(tree):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > _LARGEST:
                raise UserError(f"{path} is too large: whole numbers go up to {_LARGEST}")
    return config


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path, such as "model.convs[0].channels", and the value of every setting of a tree.

    A list without settings of its own, such as a mean, is one value.
    """
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, node
