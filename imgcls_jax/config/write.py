"""Write a config as the Python file that gives it."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from typing import Any

from imgcls_jax.config.experiment import Config

_WIDTH = 118
_FILE = '''\
"""{doc}"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return {config}
'''


def python(config: Config, doc: str, comments: Mapping[str, str] | None = None) -> str:
    """Return the text of a config file that gives this config; settings at their defaults are left out.

    Args:
      config: the config, of this package's own components.
      doc: the file's docstring.
      comments: what stands above a setting, by its path, such as "optim.schedule.peak".
    """
    text = _written(config, "", dict(comments or {}), 4)
    return _FILE.format(doc=doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"'), config=text)


def _written(value: Any, path: str, comments: Mapping[str, str], indent: int) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if _is_set(value, field)}
        parts = {f"{path}.{name}".lstrip("."): (f"{name}=", item) for name, item in kept.items()}
        return _enclosed(f"c.{type(value).__name__}(", parts, comments, indent)
    if isinstance(value, tuple):
        parts = {f"{path}[{i}]": ("", item) for i, item in enumerate(value)}
        return _enclosed("(", parts, comments, indent, single=len(value) == 1)
    return _quoted(value) if isinstance(value, str) else repr(value)


def _is_set(value: Any, field: "dataclasses.Field[Any]") -> bool:
    """Whether a setting is mandatory or differs from its default."""
    if field.default_factory is not dataclasses.MISSING:
        return bool(getattr(value, field.name) != field.default_factory())
    return field.default is dataclasses.MISSING or bool(getattr(value, field.name) != field.default)


def _enclosed(
    opening: str,
    parts: Mapping[str, tuple[str, Any]],
    comments: Mapping[str, str],
    indent: int,
    *,
    single: bool = False,
) -> str:
    """Write parts on one line if they fit and none has a comment, and else each on its own."""
    has_comment = any(
        known == path or known.startswith((f"{path}.", f"{path}[")) for path in parts for known in comments
    )
    if not has_comment:
        inside = ", ".join(name + _written(item, path, {}, 0) for path, (name, item) in parts.items())
        line = f"{opening}{inside}{',' * single})"
        if "\n" not in line and indent + len(line) <= _WIDTH:
            return line
    deeper = indent + 4
    lines = []
    for path, (name, item) in parts.items():
        if path in comments:
            lines += textwrap.wrap(
                comments[path], _WIDTH, initial_indent=" " * deeper + "# ", subsequent_indent=" " * deeper + "# "
            )
        lines.append(f"{' ' * deeper}{name}{_written(item, path, comments, deeper)},")
    return "\n".join([opening, *lines, f"{' ' * indent})"])


def _quoted(text: str) -> str:
    """Write a string in double quotes; one that is not Unicode, such as a file's name of other bytes, by escapes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return ascii(text)
    return json.dumps(text, ensure_ascii=False)
