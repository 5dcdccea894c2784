"""What is wrong with a setting, in our own words: pydantic's errors name types that a user never saw."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from imgcls_jax.config import registry
from imgcls_jax.errors import did_you_mean, short

# By the type of pydantic's error, given its context.
_RULES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda context: f"must be greater than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than": lambda context: f"must be less than {context['lt']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:,}",
    "multiple_of": lambda context: f"must be a multiple of {context['multiple_of']:g}",
    "finite_number": lambda context: "must be a finite number",
    "int_type": lambda context: "must be a whole number",
    "int_parsing": lambda context: "must be a whole number",
    "int_parsing_size": lambda context: "must be a whole number of fewer digits",
    "int_from_float": lambda context: "must be a whole number",
    "float_type": lambda context: "must be a number",
    "float_parsing": lambda context: "must be a number",
    "bool_type": lambda context: "must be true or false",
    "bool_parsing": lambda context: "must be true or false",
    "string_type": lambda context: "must be text",
    "string_unicode": lambda context: "must be valid text",
    "tuple_type": lambda context: "must be a list, such as [1, 2]",
    "list_type": lambda context: "must be a list, such as [1, 2]",
    "dict_type": lambda context: 'must be a mapping, such as {"a": 1}',
    "none_required": lambda context: "must be None",
    "string_too_short": lambda context: f"must have at least {context['min_length']} character(s)",
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: f"must match {context['pattern']}",
}


def explain(error: ValidationError, tree: Any = None) -> str:
    """Return every fault of a ValidationError, joined into one sentence.

    Args:
      error: what making a class of settings raised.
      tree: the plain data that was validated, if it was; names the classes of components inside it.
    """
    root = _class_named(error.title)
    faults = [_fault(fault, root, tree) for fault in error.errors(include_url=False)]
    return "; ".join(dict.fromkeys(faults))


def _class_named(name: str) -> type | None:
    """The class of settings of that name, which is all that pydantic tells."""
    known = [cls for root in registry.ROOTS for cls in root.registered.values() if cls.__name__ == name]
    return registry.SETTINGS.get(name) or (known[-1] if known else None)


def _fault(fault: Any, root: type | None, tree: Any) -> str:
    kind, given, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    path, parent, hint = "", root, None
    candidates, node = ([root] if root else []), tree
    outer: tuple[str, Any] = ("", None)  # path and type of what the last index is into
    for part in _named(fault["loc"], root if tree is None else None):
        node = _child(node, part)
        if isinstance(part, int):
            outer = path, hint
            path += f"[{part}]"
            candidates = _of_kind(node, candidates)
            continue
        hints = _settings(candidates[0]) if candidates else {}
        if part not in hints and path and kind != "unexpected_keyword_argument":
            continue  # the name of one type of several that the setting may have
        parent = candidates[0] if candidates else None
        path += f".{part}" if path else str(part)
        hint = hints.get(part)
        candidates = registry.classes(hint) if hint is not None else []
        candidates = _of_kind(node, candidates)
    owner = parent.__name__ if parent else "the config"
    if kind in _RULES:
        return f"{path or owner} {_RULES[kind](context)}, not {short(given)}"
    match kind:
        case "unexpected_keyword_argument":
            names = [field.name for field in dataclasses.fields(parent)] if parent else []
            hint_at = did_you_mean(str(fault["loc"][-1]), names) or (f"; it has {', '.join(names)}" if names else "")
            return f"{path} is not a setting of {owner}{hint_at}"
        case "missing" | "missing_argument" if fault["loc"] and isinstance(fault["loc"][-1], int):
            return f"{outer[0] or owner} must have {_length(outer[1])} entries, not {fault['loc'][-1]}"
        case "missing" | "missing_argument":
            return f"{path} of {owner} is missing: it has no default"
        case "unexpected_positional_argument":
            return f"{owner} is given too many values without a name: write NAME=VALUE"
        case "multiple_argument_values":
            return f"{path} of {owner} is given twice"
        case "too_short" | "too_long":
            limit = context["min_length" if kind == "too_short" else "max_length"]
            rule = f"at {'least' if kind == 'too_short' else 'most'} {limit} {'entry' if limit == 1 else 'entries'}"
            return f"{path} must have {rule}, not {context['actual_length']}"
        case "literal_error":
            hint_at = did_you_mean(str(given), [x for x in _literals(hint) if isinstance(x, str)])
            return f"{path} must be {context['expected']}, not {short(given)}{hint_at}"
        case "component":
            return f"{path} {fault['msg']}".strip()
        case "value_error" | "assertion_error":  # raised by a validator of ours or a user's, in its own words
            message = str(context.get("error") or fault["msg"])
            return f"{path}: {message}" if path else message
        case "json_invalid":
            return "a value holds characters that are not valid text"
        case "dataclass_type" | "dataclass_exact_type":
            names = [cls.__name__ for cls in candidates]
            rule = f"one of {', '.join(names)}" if len(names) > 1 else f"settings of {names[0] if names else owner}"
            return f"{path} must be {rule}, not {short(given)}"
        case _:
            rule = f"must be {registry.type_name(hint)}" if hint is not None else "is not accepted"
            return f"{path or owner} {rule}, not {short(given)}"


def _of_kind(node: Any, candidates: list[type]) -> list[type]:
    """Of the classes that a node may be of, the one that its "kind" names; all where it names none."""
    named = node.get("kind") if isinstance(node, dict) else node if isinstance(node, str) else None
    return [cls for cls in candidates if named in (cls.__name__, _kind(cls))] or candidates


def _settings(cls: type) -> dict[str, Any]:
    """The types of the settings of a class, by name; its class variables are none."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _named(loc: tuple[str | int, ...], cls: type | None) -> tuple[str | int, ...]:
    """Name the setting that was given by position: pydantic tells only which position."""
    names = [field.name for field in dataclasses.fields(cls) if not field.kw_only] if cls else []
    if loc and isinstance(loc[0], int) and loc[0] < len(names):
        return names[loc[0]], *loc[1:]
    return loc


def _kind(cls: type) -> str:
    return cls.kind() if issubclass(cls, registry.Component) else cls.__name__


def _child(node: Any, part: str | int) -> Any:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None


def _literals(hint: Any) -> list[Any]:
    """Every value that a type names."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for part in typing.get_args(hint) for value in _literals(part)]


def _length(hint: Any) -> int | str:
    """Number of entries of the tuple that a type asks for."""
    if typing.get_origin(hint) is tuple:
        return len(typing.get_args(hint))
    return next((length for part in typing.get_args(hint) if (length := _length(part)) != "more"), "more")
