"""The work directory: the record of a run, and what everything after training starts from.

config.json        the resolved config
environment.json   versions, devices, command
split.json, …      indices and hash of held-out splits; bad_images.csv if there are any
parameters.txt     every parameter: shape, where it came from, whether it trains
metrics.jsonl      a line an epoch;  tensorboard/ the same as event files
wandb_id, mlflow_id, trackio_name   under which a service knows the run
checkpoints/       the latest and the best
curves.png         loss, accuracy and learning rate over the epochs
result.json        final figures
confusion.png, mistakes.png, per_class.csv, predictions_SPLIT.npz   what the best epoch predicts
"""

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from imgcls_jax.config import Config
from imgcls_jax.config import io as files
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError
from imgcls_jax.record import checkpoint, continuing, lock
from imgcls_jax.record.json_files import read_json, set_aside, write_json

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
_HARMLESS = ("lost+found", "log.txt", "bad_rows.csv")


@contextlib.contextmanager
def claimed(workdir: Path, config: Config, *, overwrite: bool) -> Iterator[list[str]]:
    """Make `workdir` this run's, new or begun by the same config, and lock it within the block.

    Yields:
      A sentence where config.json was damaged, and is made anew.

    Raises:
      UserError: another process works in it, it holds a run of another config (every difference is listed), or files
        that no run made; nothing is changed.
    """
    with contextlib.ExitStack() as held:
        if os.path.exists(workdir) and not os.path.isdir(workdir):
            raise UserError(f"the work directory {workdir} is a file: choose another --workdir")
        if overwrite and os.path.isdir(workdir):
            with lock.locked(workdir):
                _move_aside(workdir)
        outputs.make_folder(workdir)
        held.enter_context(lock.locked(workdir))
        yield _claim(workdir, config)


def _claim(workdir: Path, config: Config) -> list[str]:
    saved = workdir / "config.json"
    if os.path.exists(saved) and not any((workdir / "checkpoints").glob("[0-9]*")):
        if checkpoint.was_set_aside(workdir) or (workdir / "result.json").exists():
            raise UserError(
                f"{workdir} was trained, and no sound checkpoint is left in it: restore its checkpoints from a copy, "
                "or start again by --overwrite, which moves it aside"
            )
        # A run that ended before its first checkpoint, by a mistake in the data settings say, has nothing to lose.
        # Its config.json stays until the new one is in its place: without it this folder would be no run's.
        for name in ("split.npz", "bad_images.csv", "bad_rows.csv"):
            (workdir / name).unlink(missing_ok=True)
    elif os.path.exists(saved):
        begun, notes = _saved_config(workdir)
        continuing.check(begun, config, workdir)
        if begun != config:
            write_json(saved, files.document(config))
        return notes
    elif foreign := sorted(path.name for path in workdir.iterdir() if not _is_harmless(path.name)):
        raise UserError(
            f"{workdir} is no run's and holds {foreign[0]}{f' and {len(foreign) - 1} more' if foreign[1:] else ''}: "
            f"choose another --workdir, such as {workdir / config.name}"
        )
    write_json(workdir / "config.json", files.document(config))
    return []


def _saved_config(workdir: Path) -> tuple[Config, list[str]]:
    """The config of a run; a damaged config.json is made anew from the newest checkpoint, and said."""
    path = workdir / "config.json"
    try:
        return files.restore(path), []
    except UserError as damage:
        with checkpoint.of_run(workdir) as checkpoints:
            document = checkpoints.newest_sound(checkpoints.run, lambda _: None)
        assert document is not None, "there is a checkpoint"
        kept = document["card"]["config"]
        try:
            is_same = read_json(path) == kept
        except UserError:
            is_same = False
        if is_same:  # no damage: another version's, or a component that is not here
            raise damage
        notes = [set_aside(path)]
        write_json(path, kept)
        return files.restore(path), notes


def _is_harmless(name: str) -> bool:
    """Whether a file may lie in a new work directory: hidden, a log, a list of bad rows, or a file system's own."""
    return name.startswith(".") or name in _HARMLESS or name.endswith((".log", ".out", ".err"))


def record_environment(workdir: Path, mesh: Any, split_hash: str, command: str | None) -> list[str]:
    """Write what the run ran on and with; each start of the run adds its own entry.

    Args:
      workdir: the folder of the run.
      mesh: a `jax.sharding.Mesh`.
      split_hash: of the data set's splits.
      command: how the user started the run; None for a call from Python.

    Returns:
      A sentence where the file was damaged, and is begun anew.
    """
    path = workdir / "environment.json"
    starts: Any = []
    notes: list[str] = []
    if path.exists():
        try:
            starts = read_json(path)
        except UserError:
            starts = None
        if not isinstance(starts, list):
            notes, starts = [set_aside(path)], []
    starts.append({
        "command": command,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": [f"{d.platform} {d.device_kind}" for d in mesh.devices.flat],
        "mesh": dict(mesh.shape),
        "split_hash": split_hash,
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_", "IMGCLS_"))},
    })  # fmt: skip
    write_json(path, starts)
    return notes


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _move_aside(workdir: Path) -> None:
    place = workdir.resolve()
    if Path.cwd().is_relative_to(place):
        raise UserError(
            f"--overwrite would move {workdir} aside, the folder that this command was started in: choose another "
            f"--workdir, such as {workdir / 'run'}"
        )
    number = 1
    while (old := workdir.with_name(f"{workdir.name}.old{number}")).exists():
        number += 1
    try:
        workdir.rename(old)
    except OSError as error:  # a mount point, or a folder whose parent may not be changed
        raise UserError(
            f"--overwrite cannot move {workdir} aside ({error.strerror or error}): choose another --workdir, such as "
            f"{workdir / 'run'}"
        ) from error
