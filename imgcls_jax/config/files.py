"""Config files, command-line overrides, and the JSON that a run leaves behind.

Everything that a user can get wrong here ends in one `UserError` that names the setting and its nearest neighbour.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
import re
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from imgcls_jax.config import base
from imgcls_jax.config.tree import Config
from imgcls_jax.errors import UserError

_ADAPTER = TypeAdapter(Config)


def load(spec: str, overrides: Sequence[str] = ()) -> Config:
    """The config of `FILE.py` or `FILE.py:VARIANT`, changed by `overrides` such as "optim.schedule.peak=3e-4"."""
    _, config = _execute(spec)
    return override(config, overrides)


def load_factors(spec: str) -> Any:
    """What the file of `spec` defines as FACTORS (see docs/ablation.md); None if it does not."""
    module, _ = _execute(spec)
    return getattr(module, "FACTORS", None)


def _execute(spec: str) -> tuple[types.ModuleType, Config]:
    name, _, variant = spec.partition(":")
    path = Path(name)
    if not path.is_file():
        nearby = [str(p) for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UserError(f"there is no config file {name}{_nearest(name, nearby)}")
    module_spec = importlib.util.spec_from_file_location(f"imgcls_config_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{name} is not a Python file: a config file ends in .py")
    module = importlib.util.module_from_spec(module_spec)
    # Registered so that dataclasses defined in a config file can resolve their own annotations.
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"{name} has no function get_config(variant): every config file defines one")
        config = module.get_config(variant)
    except ValidationError as error:
        raise UserError(f"{spec}: {_explain(error)}") from None
    except SyntaxError as error:
        raise UserError(f"{name}, line {error.lineno}: {error.msg}") from None
    except (NameError, AttributeError, ImportError) as error:
        raise UserError(f"{spec}: {error}") from None
    if not isinstance(config, Config):
        raise UserError(f"get_config of {name} must return a Config, not {type(config).__name__}")
    return module, config


def override(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with each "path.to.setting=value" put in; values are Python or JSON literals, or plain text."""
    for item in overrides:
        path, equals, text = item.partition("=")
        if not equals:
            raise UserError(f"--config.{item} lacks a value: write --config.{item}=VALUE")
        # The value as a literal first; where that does not fit, as text (`name=2024` is meant as "2024").
        failures: list[ValidationError] = []
        for value in (_literal(text), text):
            tree = _with_value(to_tree(config), path, value)
            try:
                config = _ADAPTER.validate_json(json.dumps(tree))
                break
            except ValidationError as error:
                failures.append(error)
        else:
            raise UserError(f"--config.{item}: {_explain(failures[0], tree)}")
    return config


def to_tree(config: Config) -> dict[str, Any]:
    """The config as plain dicts, lists, strings and numbers."""
    return _ADAPTER.dump_python(config, mode="json")


def document(config: Config) -> dict[str, Any]:
    """What a run saves as config.json: the config, and the version that wrote it."""
    return {"imgcls_jax": version("imgcls_jax"), "config": to_tree(config)}


def restore(path: Path) -> Config:
    """Read a saved `document` back to the identical tree."""
    try:
        saved = json.loads(path.read_text())
        tree, writer = saved["config"], saved["imgcls_jax"]
    except FileNotFoundError:
        raise UserError(f"there is no {path}: is {path.parent} the work directory of a run?") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{path} is not a saved config: it is damaged or was written by something else") from None
    try:
        return _ADAPTER.validate_json(json.dumps(tree))
    except ValidationError as error:
        raise UserError(
            f"{path} was written by imgcls_jax {writer} and does not fit {version('imgcls_jax')}: "
            f"{_explain(error, tree)}; edit the file accordingly, or install imgcls_jax {writer}"
        ) from None


def difference(old: Config, new: Config) -> list[str]:
    """One line "path: old → new" for every setting in which two configs differ."""
    before, after = dict(_leaves(to_tree(old))), dict(_leaves(to_tree(new)))
    missing = "(not set)"
    return [
        f"{path}: {before.get(path, missing)!r} → {after.get(path, missing)!r}"
        for path in dict.fromkeys([*before, *after])
        if before.get(path, missing) != after.get(path, missing)
    ]


def describe(config: Config) -> str:
    """Every setting of `config` with its value, type and doc, then the alternatives that it does not use."""
    lines: list[str] = []
    used: set[type] = set()
    alternatives: dict[type, None] = {}

    def visit(node: Any, path: str) -> None:
        used.add(type(node))
        for name, hint, doc in _fields(type(node)):
            value = getattr(node, name)
            here = f"{path}{name}"
            alternatives.update(dict.fromkeys(_classes(hint)))
            if dataclasses.is_dataclass(value):
                lines.append(f"{here}: {_type_name(hint)}{doc}")
                visit(value, f"{here}.")
            elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
                lines.append(f"{here}: {_type_name(hint)}{doc}")
                for i, item in enumerate(value):
                    lines.append(f"{here}[{i}]: {type(item).__name__}")
                    visit(item, f"{here}[{i}].")
            else:
                lines.append(f"{here} = {value!r}: {_type_name(hint)}{doc}")

    visit(config, "")
    lines.append("\nAlternatives that this config does not use:")
    pending = [cls for cls in alternatives if cls not in used]
    while pending:
        cls = pending.pop(0)
        used.add(cls)
        lines.append(f"\n{cls.__name__}: {' '.join((cls.__doc__ or '').split())}")
        for name, hint, doc in _fields(cls):
            lines.append(f"  {name}: {_type_name(hint)}{doc}")
            pending += [c for c in _classes(hint) if c not in used and c not in pending]
    return "\n".join(lines)


# ---- literals and paths -------------------------------------------------------------------------------------------


def _literal(text: str) -> Any:
    for parse in (ast.literal_eval, json.loads):
        try:
            value = parse(text)
            json.dumps(value)  # a set, bytes or an ellipsis is no setting
            return value
        except (ValueError, SyntaxError, TypeError, MemoryError):
            continue
    return text


def _with_value(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`tree` with `value` at "a.b[0].c" (or "a.b.0.c"), which must exist."""
    parts = [p for p in re.split(r"[.\[\]]+", path) if p]
    node: Any = tree
    for i, part in enumerate(parts):
        here = ".".join(parts[:i]) or "the config"
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(f"--config.{path}: {here} has {len(node)} entries, counted from 0; there is no {part}")
        elif isinstance(node, dict):
            if part not in node:
                raise UserError(f"--config.{path}: {here} has no setting {part!r}{_nearest(part, node)}")
        else:
            raise UserError(
                f"--config.{path}: {here} is {node!r} and has no settings of its own; give it whole, "
                f"as --config.{here}='{{…}}'"
            )
        key = int(part) if isinstance(node, list) else part
        if i == len(parts) - 1:
            node[key] = value
        node = node[key]
    return tree


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for i, value in enumerate(node):
            yield from _leaves(value, f"{path}[{i}]")
    else:
        yield path, node


def _nearest(name: str, names: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(names))}" if names else ""


# ---- types --------------------------------------------------------------------------------------------------------


def _fields(cls: type) -> Iterator[tuple[str, Any, str]]:
    """Name, type and " — doc" of each setting; the tags that tell a union's classes apart are left out."""
    hints = typing.get_type_hints(cls)
    for name, info in cls.__pydantic_fields__.items():  # type: ignore[attr-defined]
        if not _is_tag(cls, name):
            yield name, hints[name], f" — {' '.join(info.description.split())}" if info.description else ""


def _is_tag(cls: type, name: str) -> bool:
    hint = typing.get_type_hints(cls)[name]
    return typing.get_origin(hint) is typing.Literal and len(typing.get_args(hint)) == 1


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type_name, args))
    if origin is typing.Literal:
        return " | ".join(map(repr, args))
    if origin is tuple:
        return f"tuple[{', '.join('…' if a is Ellipsis else _type_name(a) for a in args)}]"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", str(hint))


def _classes(hint: Any) -> list[type]:
    """The settings classes that a type mentions."""
    if dataclasses.is_dataclass(hint):
        return [typing.cast(type, hint)]
    return [cls for arg in typing.get_args(hint) for cls in _classes(arg)]


# ---- pydantic's errors in our words -------------------------------------------------------------------------------


def _explain(error: ValidationError, tree: Any = None) -> str:
    """Every fault of a ValidationError, joined into one sentence. `tree` is the validated plain data, if it was."""
    root = base.CLASSES.get(error.title)
    return "; ".join(_fault(fault, root, tree) for fault in error.errors(include_url=False))


def _fault(fault: Any, cls: type | None, tree: Any) -> str:
    path, parent, candidates = "", cls, [cls] if cls else []
    for part in fault["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        tagged = [c for c in candidates if any(_is_tag(c, n) and part in _tag_values(c, n) for n in _names(c))]
        if tagged:  # pydantic puts the union's tag into the location; the user never wrote it
            candidates = tagged
            continue
        parent = candidates[0] if candidates else None
        path += f".{part}" if path else str(part)
        hints = typing.get_type_hints(parent) if parent else {}
        candidates = _classes(hints[part]) if part in hints else []
    owner = parent.__name__ if parent else "Config"
    given = fault.get("input")
    match fault["type"]:
        case "unexpected_keyword_argument":
            settings = [n for n in _names(parent) if not _is_tag(parent, n)] if parent else []
            return f"{path} is not a setting of {owner}{_nearest(str(fault['loc'][-1]), settings)}"
        case "missing" | "missing_argument":
            return f"{path} of {owner} is missing: it has no default"
        case "union_tag_invalid" | "union_tag_not_found" | "dataclass_type" | "dataclass_exact_type":
            names = ", ".join(c.__name__ for c in candidates)
            return f"{path} must be one of {names}, not {_short(given)}"
        case _:
            message = fault["msg"].replace("Input should be", "must be").replace("Value should have", "must have")
            return f"{path} {message[:1].lower()}{message[1:]}, not {_short(given)}"


def _names(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _tag_values(cls: type, name: str) -> tuple[Any, ...]:
    return typing.get_args(typing.get_type_hints(cls)[name])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
