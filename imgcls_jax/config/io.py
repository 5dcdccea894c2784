"""Config files, and the JSON that a run leaves behind. Everything that a user can get wrong ends in one `UserError`."""

import contextlib
import json
import os
import re
import traceback
import types
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imgcls_jax.config import overrides as changes
from imgcls_jax.config import registry
from imgcls_jax.config.experiment import Config
from imgcls_jax.config.faults import explain
from imgcls_jax.config.tree import from_tree, leaves, to_tree
from imgcls_jax.errors import UserError, did_you_mean, short

_PACKAGE = Path(__file__).parents[1]


def load(spec: str | Path, overrides: Sequence[str] = (), **settings: Any) -> Config:
    """Read a config file, and change single settings.

    Args:
      spec: "FILE.py", or "FILE.py:VARIANT" for one of its variants.
      overrides: changes as a command line gives them, such as "optim.schedule.peak=3e-4".
      **settings: the same as values, by name, or by path in a dict: `epochs=5`, `**{"optim.schedule.peak": 3e-4}`.

    Returns:
      The resolved config.

    Raises:
      UserError: the file, the variant or a setting is wrong; the message names the file's line or the setting.

    Example:
      >>> load("configs/digits_cnn.py", ["optim.optimizer=SGD"], epochs=5).epochs
      5
    """
    _, config = _execute(str(spec))
    return changes.replace(changes.override(config, overrides), settings)


def load_factors(spec: str | Path) -> Any:
    """Return what the file of `spec` defines as FACTORS (see docs/ablation.md); None if it does not."""
    module, _ = _execute(str(spec))
    return getattr(module, "FACTORS", None)


def split_spec(spec: str) -> tuple[str, str]:
    """Return the file and the variant of "FILE.py:VARIANT"; the variant is "" where there is none."""
    found = re.fullmatch(r"(.+?\.py)(?::(.*))?", spec, re.DOTALL)
    return (found[1], found[2] or "") if found else (spec, "")


def _execute(spec: str) -> tuple[types.ModuleType, Config]:
    name, variant = split_spec(spec)
    path = Path(name)
    _check_file(path, name)
    with mistakes_of(name):
        module = registry.execute(f"imgcls_config_{path.stem}", path)
        if not hasattr(module, "get_config"):
            raise UserError(f"{name} has no function get_config(variant): every config file defines one")
        config = module.get_config(variant)
    if not isinstance(config, Config):
        raise UserError(f"get_config of {name} must return a Config, not {type(config).__name__}")
    return module, config


@contextlib.contextmanager
def mistakes_of(name: str) -> Iterator[None]:
    """Within it, make a UserError of whatever a user's own file raises, with its file and line."""
    try:
        yield
    except UserError:
        raise
    except ValidationError as error:
        raise UserError(f"{_place(error, name)}: {explain(error)}") from None
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""  # none where it is no text at all
        raise UserError(f"{error.filename or name}{line}: {error.msg}") from None
    except (Exception, SystemExit) as error:  # the file is a user's own: anything may go wrong in it
        text = " ".join(str(error).split())
        raise UserError(f"{_place(error, name)}: {type(error).__name__}{f': {text}' if text else ''}") from None


def _check_file(path: Path, name: str) -> None:
    try:
        if path.is_file():
            if path.suffix != ".py":
                raise UserError(f"{name} is no config file: its name must end in .py")
            return
        is_folder, nearby = path.is_dir(), [file.name for file in path.parent.glob("*.py") if file.is_file()]
        if not is_folder and os.path.lexists(path):
            raise UserError(f"{name} is no regular file, or a link to nothing: --config wants a config file")
    except (OSError, ValueError):  # a name that no file can have
        is_folder, nearby = False, []
    if is_folder:
        raise UserError(f"{name} is a folder: --config wants a config file, such as configs/digits_cnn.py")
    raise UserError(f"there is no config file {short(name)[1:-1]}{did_you_mean(path.name, nearby)}")


def _place(error: BaseException, name: str) -> str:
    """The file and line of a user's own that an exception comes from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    if not frames:
        return name
    file = name if Path(frames[-1].filename).absolute() == Path(name).absolute() else frames[-1].filename
    return f"{file}, line {frames[-1].lineno}"


def _is_own(file: str) -> bool:
    path = Path(file)
    return path.is_file() and _PACKAGE not in path.parents and "site-packages" not in path.parts


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Put each "path.to.setting=VALUE" into `config`; see `overrides.override`."""
    return changes.override(config, overrides)


def document(config: Config) -> dict[str, Any]:
    """Return what a run saves as config.json: the config, the version that wrote it, and where the modules of a user's
    own components are."""
    return {
        "imgcls_jax": version("imgcls_jax"),
        "config": to_tree(config),
        "modules": registry.foreign_modules(config),
    }


def restore(path: str | Path) -> Config:
    """Read a saved `document` back to the identical config.

    Raises:
      UserError: there is no such file, it is damaged, or it does not fit this version.
    """
    path = Path(path)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no {path}: is {path.parent} the work directory of a run?") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a saved config: it is damaged or was written by something else") from None
    return from_document(saved, str(path))


def from_document(saved: Any, path: str) -> Config:
    """Make the config of a `document`; `path` names the file that it comes from.

    Raises:
      UserError: it is none, or does not fit this version.
    """
    try:
        tree, writer, modules = saved["config"], saved["imgcls_jax"], saved.get("modules", {})
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a saved config: it is damaged or was written by something else") from None
    texts = modules.items() if isinstance(modules, dict) else ()
    registry.remember_modules({name: file for name, file in texts if isinstance(file, str)})
    try:
        return from_tree(tree)
    except ValidationError as error:
        if any(fault["type"] == "component" for fault in error.errors()):  # a part that is not here: no version helps
            raise UserError(f"{path}: {explain(error, tree)}") from None
        raise UserError(
            f"{path} was written by imgcls_jax {writer} and does not fit {version('imgcls_jax')}: "
            f"{explain(error, tree)}; edit the file accordingly, or use the version that wrote it"
        ) from None


def difference(old: Config, new: Config) -> list[str]:
    """Return one line "path: old → new" for every setting in which two configs differ."""
    before, after = dict(leaves(to_tree(old))), dict(leaves(to_tree(new)))
    missing = "(not set)"
    return [
        f"{path}: {before.get(path, missing)!r} → {after.get(path, missing)!r}"
        for path in dict.fromkeys([*before, *after])
        if before.get(path, missing) != after.get(path, missing)
    ]
