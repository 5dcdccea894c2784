"""The help of a config: every setting with its value, type and meaning, and what it could be instead."""

import dataclasses
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from imgcls_jax.config import registry
from imgcls_jax.config.experiment import Config
from imgcls_jax.config.registry import Component
from imgcls_jax.errors import UserError, did_you_mean

_CHOOSE = (
    "Not used here. Name a kind to take it with its defaults, as in --config.optim.optimizer=SGD, or give its settings "
    """too, as in --config.optim.optimizer='{"kind": "SGD", "momentum": 0.9}'."""
)


def describe(config: Config, part: str = "", *, width: int = 80) -> str:
    """Return the help of `config`, or of a part of it.

    Args:
      config: the experiment.
      part: the path of a setting, such as "optim.schedule" or "model.convs[0]", or the name of a kind, such as "AdamW";
        "" for the whole config.
      width: of the lines, characters.

    Raises:
      UserError: there is no such part.
    """
    if not part:
        lines, hints = _settings(config, "", width)
        return "\n".join([*lines, *_alternatives(hints, used=_classes_of(config), width=width)])
    kinds = {cls.__name__: cls for cls in _every_class(Config)}
    if part in kinds:
        return "\n".join(_class(kinds[part], width))
    node, hint, doc = _find(config, part, list(kinds))
    if not dataclasses.is_dataclass(node) and not _has_parts(node):
        return "\n".join([*_setting(part, node, hint, doc, width), *_alternatives([hint], used=set(), width=width)])
    lines, hints = _value(part, node, hint, doc, width)
    return "\n".join([*lines, *_alternatives([hint, *hints], used=_classes_of(node), width=width)])


def _find(config: Config, part: str, kinds: list[str]) -> tuple[Any, Any, str]:
    """The value, type and doc of the setting at a path."""
    node: Any = config
    hint, doc = type(config), ""
    for name in (name for name in re.split(r"[.\[\]]+", part) if name):
        if isinstance(node, tuple) and re.fullmatch("[0-9]{1,9}", name) and int(name) < len(node):
            node, hint, doc = node[int(name)], type(node[int(name)]), ""
            continue
        known = {field: (type_, text) for field, type_, text in _fields(type(node))} if _is_settings(node) else {}
        if name not in known:
            raise UserError(
                f"--config.help={part}: there is no setting or kind {name!r}{did_you_mean(name, [*known, *kinds])}"
                + (f"; here are {', '.join(known)}" if known else "")
            )
        node, (hint, doc) = getattr(node, name), known[name]
    return node, hint, doc


def _settings(node: Any, path: str, width: int) -> tuple[list[str], list[Any]]:
    """The lines of every setting of a group, and the types of all of them."""
    lines: list[str] = []
    hints: list[Any] = []
    for name, hint, doc in _fields(type(node)):
        more, inner = _value(f"{path}{name}", getattr(node, name), hint, doc, width)
        lines += more
        hints += [hint, *inner]
    return lines, hints


def _value(here: str, value: Any, hint: Any, doc: str, width: int) -> tuple[list[str], list[Any]]:
    if _is_settings(value):
        lines, hints = _settings(value, f"{here}.", width)
        return [*_setting(here, type(value).__name__, hint, doc or _summary(type(value)), width), *lines], hints
    if _has_parts(value):
        lines, hints = _setting(here, f"{len(value)} entries", hint, doc, width), []
        for i, item in enumerate(value):
            more, inner = _value(f"{here}[{i}]", item, type(item), "", width)
            lines, hints = [*lines, *more], [*hints, *inner]
        return lines, hints
    return _setting(here, repr(value), hint, doc, width), []


def _setting(here: str, value: Any, hint: Any, doc: str, width: int) -> list[str]:
    """A setting in two lines or more: its name, value and type; its meaning below, indented."""
    shown = registry.type_name(hint)
    head = f"{here} = {value}" + (f"   ({shown})" if shown != value else "")
    return [
        *textwrap.wrap(head, width, subsequent_indent="      ", break_on_hyphens=False),
        *textwrap.wrap(doc, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False),
    ]


def _alternatives(hints: list[Any], used: set[type], width: int) -> list[str]:
    """The kinds that the types allow and the config does not use, grouped by what they are for, with their settings."""
    groups: dict[str, dict[type, None]] = {}
    pending = [cls for hint in hints for cls in registry.classes(hint)]
    seen = set(used)
    while pending:
        cls = pending.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        root = cls.root.__name__ if issubclass(cls, Component) else "other settings"
        groups.setdefault(root, {})[cls] = None
        pending += [other for _, hint, _ in _fields(cls) for other in registry.classes(hint)]
    if not groups:
        return []
    lines = ["", *textwrap.wrap(_CHOOSE, width)]
    for root, members in groups.items():
        title = f"{root}: any of {', '.join(cls.__name__ for cls in members)}" if root != "other settings" else root
        lines += ["", *textwrap.wrap(title, width, subsequent_indent="  ")]
        for cls in members:
            lines += ["", *_class(cls, width)]
    return lines


def _class(cls: type, width: int) -> list[str]:
    lines = textwrap.wrap(f"{cls.__name__}: {_summary(cls)}", width, subsequent_indent="  ", break_on_hyphens=False)
    for name, hint, doc in _fields(cls):
        default = cls.__pydantic_fields__[name].get_default(call_default_factory=True)  # type: ignore[attr-defined]
        required = cls.__pydantic_fields__[name].is_required()  # type: ignore[attr-defined]
        shown = type(default).__name__ + "()" if _is_settings(default) else repr(default)
        head = f"  {name}   ({registry.type_name(hint)}{', required' if required else f', default {shown}'})"
        lines += textwrap.wrap(head, width, subsequent_indent="        ", break_on_hyphens=False)
        lines += textwrap.wrap(doc, width, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False)
    return lines


def _fields(cls: type) -> Iterator[tuple[str, Any, str]]:
    """Name, type and doc of each setting; a doc is inherited, too."""
    hints = typing.get_type_hints(cls, include_extras=True)
    bases = [vars(base)["__pydantic_fields__"] for base in cls.__mro__ if "__pydantic_fields__" in vars(base)]
    for name in bases[0]:
        docs = [fields[name].description for fields in bases if name in fields and fields[name].description]
        yield name, hints[name], " ".join(docs[0].split()) if docs else ""


def _summary(cls: type) -> str:
    """The docstring of a class; none where the dataclass made it."""
    doc = " ".join((cls.__doc__ or "").split())
    return "" if doc.startswith(f"{cls.__name__}(") else doc


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _has_parts(value: Any) -> bool:
    return isinstance(value, tuple) and any(map(_is_settings, value))


def _classes_of(node: Any) -> set[type]:
    """Every class of settings inside a value."""
    if _is_settings(node):
        return {type(node)}.union(*(_classes_of(getattr(node, field.name)) for field in dataclasses.fields(node)))
    return set().union(*map(_classes_of, node)) if isinstance(node, tuple) else set()


def _every_class(cls: type) -> list[type]:
    """A class of settings and all that can be inside it."""
    found, pending = {cls: None}, [cls]
    while pending:
        inner = [other for _, hint, _ in _fields(pending.pop()) for other in registry.classes(hint)]
        pending += [other for other in inner if other not in found]
        found |= dict.fromkeys(inner)
    return list(found)
