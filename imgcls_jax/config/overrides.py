"""Change single settings of a config: "optim.schedule.peak=3e-4" from a command line, or by keywords from Python."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from imgcls_jax.config import registry
from imgcls_jax.config.experiment import Config
from imgcls_jax.config.faults import explain
from imgcls_jax.config.tree import from_tree, leaves, to_tree
from imgcls_jax.errors import UserError, did_you_mean, short

# Names under which other programs know a setting.
OTHER_NAMES = {
    "lr": "optim.schedule.peak",
    "learning_rate": "optim.schedule.peak",
    "optimizer": "optim.optimizer",
    "wd": "optim.optimizer.weight_decay",
    "warmup": "optim.schedule.warmup_epochs",
    "scheduler": "optim.schedule.shape",
    "bs": "batch_size",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "amp": "precision",
    "img_size": "data.image_size",
    "imgsz": "data.image_size",
    "num_workers": "data.workers",
    "path": "data.source.path",
    "data_path": "data.source.path",
    "data_dir": "data.source.data_dir",
    "pretrained": "transfer.init_from",
    "freeze": "transfer.freeze",
    "gpus": "mesh.devices",
}


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Put each "path.to.setting=VALUE" into `config`; values are Python or JSON literals, or plain text.

    Raises:
      UserError: a path or a value is wrong; the message names the setting and, if one is near, the one that was meant.
    """
    for item in overrides:
        path, equals, text = item.partition("=")
        if not path:
            raise UserError(f"--config.{item} names no setting: write --config.KEY=VALUE, as in --config.epochs=5")
        if not equals:
            raise UserError(f"--config.{item} lacks a value: write --config.{item}=VALUE")
        config = put(config, path.removesuffix(".kind"), readings(text), flag="--config.")
    return config


def replace(config: Config, settings: Mapping[str, Any]) -> Config:
    """Put each value into `config` at its path: {"epochs": 5, "optim.schedule.peak": 1e-3, "model": c.CNN(…)}.

    Raises:
      UserError: as `override`.
    """
    for path, value in settings.items():
        config = put(config, path, [registry.plain(value)])
    return config


def readings(text: str) -> list[Any]:
    """Return the values that a text may stand for: a literal first, and where that does not fit, itself (`name=2024` is
    meant as "2024")."""
    literal = _literal(text)
    return [literal] if isinstance(literal, str) and literal == text else [literal, text]


def settings_named(name: str, config: Config) -> list[str]:
    """Return the paths of the settings that `name` may mean: by its last part, or as other programs call it."""
    name = name.replace("-", "_")
    paths = [re.sub(r"\.kind$", "", path) for path, _ in leaves(to_tree(config))]
    if (path := OTHER_NAMES.get(name)) in paths and path:
        return [path]
    found = [path for path in paths if path.rpartition(".")[2] == name]
    return sorted(dict.fromkeys(found), key=lambda path: (path.count("["), path.count(".")))


def put(config: Config, path: str, values: Sequence[Any], *, flag: str = "") -> Config:
    """Put the first of the values that fits into `config` at `path`; messages put `flag` before a path.

    Raises:
      UserError: as `override`.
    """
    said = flag + short(path)[1:-1]
    failures: list[str] = []
    for value in values:
        tree = to_tree(config)
        try:
            _set(tree, path, value, said, config, flag)
            return from_tree(tree)
        except ValidationError as error:
            failures.append(explain(error, tree))
        except (RecursionError, ValueError):
            failures.append("the value is nested too deeply, or is a number of too many digits")
    raise UserError(flag + failures[0] if failures[0].startswith(path) else f"{said}: {failures[0]}")


def _literal(text: str) -> Any:
    for parse in (ast.literal_eval, json.loads):
        try:
            value = parse(text)
            json.dumps(value)  # a set, bytes or an ellipsis is no setting
            return value
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _set(tree: dict[str, Any], path: str, value: Any, said: str, config: Config, flag: str) -> None:
    """Put `value` into `tree` at "a.b[0].c" (or "a.b.0.c"), which must exist."""
    parts = [part for part in re.split(r"[.\[\]]+", path) if part]
    node: Any = tree
    for i, part in enumerate(parts):
        here = ".".join(parts[:i]) or "the config"
        if isinstance(node, list):
            if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(node):
                raise UserError(f"{said}: {here} has {len(node)} entries, counted from 0; there is no {part}")
        elif isinstance(node, dict):
            if part not in node:
                raise UserError(f"{said}: {here} has no setting {part!r}{_meant(parts[: i + 1], node, config, flag)}")
        else:
            raise UserError(
                f"{said}: {here} is {short(node)} and has no settings of its own; give it whole, as "
                f"{flag}{here}='{{…}}'"
            )
        key = int(part) if isinstance(node, list) else part
        if i == len(parts) - 1:
            node[key] = value
            return
        node = node[key]
    raise UserError(f"{said} names no setting")


def _meant(parts: Sequence[str], node: Mapping[str, Any], config: Config, flag: str) -> str:
    """What may be meant by the last of `parts`, which `node` does not have."""
    names: Iterable[str] = [name for name in node if name != "kind"]
    if near := did_you_mean(parts[-1], names):
        return near
    elsewhere = settings_named(parts[-1], config)
    if elsewhere:
        return f" (did you mean {' or '.join(flag + path for path in elsewhere[:3])}?)"
    return f"; it has {', '.join(sorted(names))}"
