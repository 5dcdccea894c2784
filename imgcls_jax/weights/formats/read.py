"""From a file of any supported format to one flat dict of arrays under torch's names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from imgcls_jax.errors import UserError, short
from imgcls_jax.weights.formats import npz_file, torch_file

# Where training programs put the model within their checkpoint, in the order that timm looks for them.
_STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
# What wrappers put before every name: DataParallel, Lightning, torch.compile, and training programs' own classes.
_WRAPPERS = re.compile(r"(module|model|_orig_mod|net|network|backbone)\.")
_MOST_WRAPPERS = 10


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read a model's parameters and buffers.

    Formats, told apart by content: torch's zip and legacy files, safetensors, and `.npz` archives of arrays under
    torch's names. A state dict inside a training checkpoint is found, and a prefix that every name carries
    (`module.`, `model.`, `_orig_mod.`, …) is removed.

    Returns:
        Name → array, read-only, in the file's own type (bfloat16 as `ml_dtypes.bfloat16`) and torch's layout.

    Raises:
        UserError: the file is missing, of no known format, damaged, or unsafe.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no weight file {path}.")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if not start:
        raise UserError(f"{path} is empty: get the file anew.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path} is a web page, not a weight file: download the file itself, not the page about it.")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` where it came from.")
    if start[8:9] == b"{":  # the length of a JSON header, and the header
        tree = _read_safetensors(path)
    elif start.startswith(b"PK\x03\x04") and npz_file.is_npz(path):
        tree = npz_file.load(path)
    else:
        tree = torch_file.load(path)
    return _strip(_state_dict(tree, path))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except AttributeError as error:  # safetensors asks numpy for a type that it does not have
        kind = str(error).rpartition("attribute ")[2]
        raise UserError(
            f"{path} holds numbers of the type {kind}, which is not read: convert them to float32 or bfloat16."
        ) from error
    except Exception as error:  # of its own, of numpy, of the system: whatever a made-up file brings about
        raise UserError(
            f"{path} is a damaged safetensors file ({str(error)[:200] or type(error).__name__}): get the file anew."
        ) from error


def _state_dict(tree: Any, path: Path) -> dict[str, np.ndarray]:
    """The model within a checkpoint: the tree itself, or a dict of arrays inside it."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{path} holds a {type(tree).__name__}, not a state dict: save model.state_dict() there.")
    if _is_state_dict(tree):
        return dict(tree)
    inside = {key: value for key, value in tree.items() if isinstance(value, Mapping) and _is_state_dict(value)}
    for key in _STATE_DICT_KEYS:
        if key in inside:
            return dict(inside[key])
    if len(inside) == 1:
        return dict(next(iter(inside.values())))
    names = ", ".join(map(short, list(inside or tree)[:10])) or "nothing"
    found = f"state dicts under {names}" if inside else f"only {names}"
    raise UserError(f"{path} has no state dict under any of {', '.join(_STATE_DICT_KEYS)}; it holds {found}.")


def _is_state_dict(tree: Mapping) -> bool:
    return bool(tree) and all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in tree.items())


def _strip(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove wrappers' prefixes, as long as all names share one."""
    for _ in range(_MOST_WRAPPERS):
        match = _WRAPPERS.match(next(iter(state)))
        if match is None or not all(name.startswith(match[0]) for name in state):
            break
        state = {name.removeprefix(match[0]): array for name, array in state.items()}
    return state
