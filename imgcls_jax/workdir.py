"""The work directory: the record of a run, and what everything after training starts from.

config.json        the resolved config
environment.json   versions, devices, command
split.json, …      indices and hash of held-out splits; bad_images.csv if there are any
parameters.txt     every parameter: shape, where it came from, whether it trains
metrics.jsonl      a line an epoch;  tensorboard/ the same as event files
checkpoints/       the latest and the best
curves.png         loss, accuracy and learning rate over the epochs
result.json        final figures
"""

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from imgcls_jax.config import Config, files
from imgcls_jax.errors import UserError

_PACKAGES = (
    "imgcls_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "tensorflow-datasets",
    "grain",
)
_MOST_DIFFERENCES = 20


def claim(workdir: Path, config: Config, *, overwrite: bool) -> None:
    """Make `workdir` this run's: new, or begun by the same config.

    Raises:
      UserError: it holds a run of another config (every difference is listed), or files that no run made.
    """
    saved = workdir / "config.json"
    if overwrite and workdir.exists():
        _move_aside(workdir)
    if saved.exists() and not any((workdir / "checkpoints").glob("[0-9]*")):
        # A run that ended before its first checkpoint, by a mistake in the data settings say, has nothing to lose.
        for name in ("config.json", "split.npz", "bad_images.csv"):
            (workdir / name).unlink(missing_ok=True)
    elif saved.exists():
        differences = files.difference(files.restore(saved), config)
        if differences:
            more = len(differences) - _MOST_DIFFERENCES
            listed = differences[:_MOST_DIFFERENCES] + ([f"… and {more} more"] if more > 0 else [])
            raise UserError(
                f"{workdir} holds a run of another config; choose another --workdir, or --overwrite to move it aside:"
                + "".join(f"\n  {line}" for line in listed)
            )
        return
    elif workdir.exists() and not workdir.is_dir():
        raise UserError(f"the work directory {workdir} is a file: choose another --workdir")
    elif workdir.exists() and any(workdir.iterdir()):
        raise UserError(f"{workdir} is not empty and not a run's: choose another --workdir, or --overwrite")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the work directory {workdir}: {error.strerror}") from None
    write_json(workdir / "config.json", files.document(config))


def record_environment(workdir: Path, devices: list[Any], command: str | None) -> None:
    """Write what the run ran on; each start of the run adds its own entry."""
    path = workdir / "environment.json"
    starts = json.loads(path.read_text()) if path.exists() else []
    starts.append({
        "command": command,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": [f"{d.platform} {d.device_kind}" for d in devices],
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_", "IMGCLS_"))},
    })  # fmt: skip
    write_json(path, starts)


def write_json(path: Path, document: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, never a part."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _move_aside(workdir: Path) -> None:
    number = 1
    while (old := workdir.with_name(f"{workdir.name}.old{number}")).exists():
        number += 1
    workdir.rename(old)
