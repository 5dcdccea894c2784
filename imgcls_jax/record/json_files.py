"""Read and write JSON files such that a reader sees the old file or the new one, never a part of it."""

import json
import os
from pathlib import Path
from typing import Any

from imgcls_jax.errors import UserError


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      UserError: there is no such file, it cannot be read, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # also of bytes that are not UTF-8
        raise UserError(f"{path} is damaged: it is not JSON ({error})") from None


def read_json_lines(path: Path) -> list[Any]:
    """Read a file of one JSON document per line; a last line without its end, which is still being written, is left
    out.

    Raises:
      UserError: there is no such file, it cannot be read, or a line is not JSON.
    """
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    documents = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            documents.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is damaged: it is not JSON ({error})") from None
    return documents


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically and durably: after a power cut there is the old file or the new one.

    Beside it there may then be .NAME.partial, which the next writing replaces.
    """
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def set_aside(path: Path) -> str:
    """Rename a damaged file of a run, so that it is made anew; return a sentence that says so."""
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(damaged)
    except OSError as error:
        raise UserError(f"{path} is damaged and cannot be renamed: {error.strerror or error}") from error
    return f"{path} is damaged: it is kept as {damaged.name} and made anew"
