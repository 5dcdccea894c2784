"""Orbax checkpoints of a run: the latest and the best, saved in the background and atomically.

A checkpoint is a folder WORKDIR/checkpoints/STEP with two items: `state`, the arrays of the TrainState, and `run`, a
JSON document with everything else that resuming or using the model needs: how far the loop was, its history, the best
epoch so far, and the model's card (class names, preprocessing, config); and checksums of both, which every reader
compares.
"""

import concurrent.futures
import contextlib
import errno
import glob
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record import checksums
from imgcls_jax.record.documents import CheckpointDocument

_T = TypeVar("_T")
_SET_ASIDE = "damaged-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Folder(type(epath.Path("/"))):  # type: ignore[misc]
    """A path whose `glob` takes it as it is, as pathlib's does: `[1]` in the name of a folder is no pattern."""

    def glob(self, pattern: str) -> Any:
        return (self._new(found) for found in glob.iglob(os.path.join(glob.escape(str(self)), pattern)))


class DamagedCheckpoint(UserError):
    """A checkpoint is not what was written: bits differ, or a part is missing."""


class Checkpoints:
    """The checkpoints of one work directory.

    A save first removes what is neither the latest finished checkpoint nor the best one, so that at every moment, a
    kill included, the newest finished checkpoint and the best one are on disk.

    Training waits for a copy of the state in the host's memory, and for a save before that is still being written. A
    thread does the rest: removing, checksums, writing. Of several processes, which take turns in it, the main thread
    does all but the writing.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        """Of the run's own process, or `read_only` for everyone else: nothing of a run that goes on is touched."""
        # Unfinished checkpoints of a killed run lie under temporary names; its next process clears them away, at the
        # latest before its first save.
        logging.getLogger("absl").addFilter(_has_no_traceback)
        _drop_late_callbacks()
        self._read_only = read_only
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._under_way: concurrent.futures.Future[None] | None = None
        with _silent():
            self._manager = ocp.CheckpointManager(
                _Folder(folder.absolute()),
                item_names=("state", "run"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None, cleanup_tmp_directories=not read_only, read_only=read_only, create=not read_only
                ),
            )

    def latest(self) -> int | None:
        """Step of the newest checkpoint, for whose end it waits."""
        self.wait()
        return self._manager.latest_step()

    def save(self, step: int, state: Any, run: CheckpointDocument) -> None:
        """Save in the background; run["best"] is the step of the best checkpoint, which stays, as run["anchors"] do.

        Raises:
          UserError: this or an earlier checkpoint cannot be written; those before it are whole.
        """
        self.wait()
        if meshes.is_multi_process():
            with self._writing():
                self._save(step, state, run)
        else:
            # As text, because the history goes on meanwhile.
            self._under_way = self._thread.submit(self._save_whole, step, _on_host(state), json.dumps(run))

    def _save_whole(self, step: int, state: Any, run: str) -> None:
        self._save(step, state, json.loads(run))
        self._manager.wait_until_finished()

    def _save(self, step: int, state: Any, run: CheckpointDocument) -> None:
        keep = {self._manager.latest_step(), run["best"], step, *run.get("anchors", ())}
        for old in self._manager.all_steps():
            if old not in keep:
                self._manager.delete(old)
        document = checksums.signed(run, checksums.of_arrays(state))
        self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(document))
        )

    def delete_after(self, step: int) -> None:
        """Delete all checkpoints of later steps, the newest first."""
        self.wait()
        for later in sorted((other for other in self._manager.all_steps() if other > step), reverse=True):
            self._manager.delete(later)

    def run(self, step: int) -> dict[str, Any]:
        """Read the JSON document of a checkpoint.

        Raises:
          DamagedCheckpoint: it is not what was written.
        """
        return self._run(step)[0]

    def _run(self, step: int) -> tuple[dict[str, Any], dict[str, str]]:
        with self._whole(step):
            return checksums.checked(
                self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
            )

    def state(self, step: int, like: Any) -> Any:
        """Read the state of a checkpoint, with the shapes, types and shardings of `like` (arrays or ShapeDtypeStructs).

        Raises:
          DamagedCheckpoint: it is not what was written.
          UserError: it is another model's.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        _, expected = self._run(step)
        try:
            with _silent():
                args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
                restored = self._manager.restore(step, args=args).state
        except (ValueError, OSError, KeyError, TypeError) as error:
            self.arrays(step)  # tells a damaged one
            raise UserError(f"the checkpoint {self._path(step)} does not fit this model: {error}") from error
        with self._whole(step):
            checksums.check_arrays(restored, expected)
        return restored

    def arrays(self, step: int) -> dict[str, Any]:
        """Read the state of a checkpoint as nested dicts of numpy arrays, with text keys.

        It needs neither the model nor the devices that the run was trained on.

        Raises:
          DamagedCheckpoint: it is not what was written.
        """
        folder = _Folder(self._path(step)) / "state"
        _, expected = self._run(step)
        with self._whole(step), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            saved = checkpointer.metadata(folder).item_metadata
            # As numpy: by default Orbax asks for the devices that the arrays were saved from.
            numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree)
            arrays = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=numpy))
            checksums.check_arrays(arrays, expected)
        return arrays

    @contextlib.contextmanager
    def _whole(self, step: int) -> Iterator[None]:
        """Within it, every error is damage: Orbax and its formats have many."""
        try:
            with _silent():
                yield
        except Exception as error:
            told = isinstance(error, ValueError | OSError) and next(iter(str(error).splitlines()), "")
            reason = told or "a part of it is missing or cannot be read"
            raise DamagedCheckpoint(f"the checkpoint {self._path(step)} is damaged: {reason}") from error

    def newest_sound(self, read: Callable[[int], _T], tell: Callable[[str], None]) -> _T | None:
        """Return what `read` makes of the newest checkpoint that is not damaged; None where there is no checkpoint.

        The damaged ones before it are renamed, so that nothing takes them for checkpoints any more; who only reads
        leaves them as they are.

        Args:
          read: is given the step of a checkpoint.
          tell: is given a sentence for each damaged checkpoint.

        Raises:
          UserError: all checkpoints are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            damage: DamagedCheckpoint | None = None
            try:
                found = read(step)
            except DamagedCheckpoint as error:
                damage = error
            if not meshes.in_any(damage is not None):
                return found
            place = "" if self._read_only else f"; it is set aside as {self.set_aside(step)}"
            then = "" if step == steps[-1] else "; the one before it is used"
            tell(f"{damage or f'the checkpoint {self._path(step)} is damaged'}{place}{then}")
        if steps:
            raise UserError(
                f"no sound checkpoint is left in {self._manager.directory}: each of {len(steps)} is damaged; restore "
                "the folder from a copy, or start again by --overwrite, which moves the run aside"
            )
        return None

    def set_aside(self, step: int) -> str:
        """Rename a checkpoint so that it is none any more; return its new name."""
        old, number = self._path(step), 1
        while (new := old.with_name(f"{_SET_ASIDE}{step}{f'-{number}' if number > 1 else ''}")).exists():
            number += 1
        if jax.process_index() == 0:
            try:
                old.rename(new)
            except OSError as error:
                raise UserError(f"{old} is damaged and cannot be renamed: {error.strerror or error}") from error
        meshes.in_any(False)  # all wait for it
        self._manager.reload()
        return new.name

    def wait(self) -> None:
        """Return when the last save is on disk.

        Raises:
          UserError: it cannot be written; the checkpoints before it are whole.
        """
        with self._writing():
            if self._under_way is not None:
                concurrent.futures.wait([self._under_way])
                saved, self._under_way = self._under_way, None
                saved.result()
            self._manager.wait_until_finished()

    def close(self) -> None:
        """End all writing, and release what it needs.

        Raises:
          UserError: the last checkpoint cannot be written; those before it are whole.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._manager.close()  # an error of the writing is raised once
            logging.getLogger("absl").removeFilter(_has_no_traceback)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Give the error of a save, which is raised by what comes after it, as one sentence."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            text = str(error)
            full = "RESOURCE_EXHAUSTED" in text or "No space left" in text or getattr(error, "errno", 0) in _FULL
            reason = "the disk is full" if full else next(iter(text.splitlines()), type(error).__name__)
            raise UserError(
                f"a checkpoint cannot be written to {self._manager.directory}: {reason}; the checkpoints before it are "
                f"whole, and the same call goes on from there once this is mended"
            ) from error

    def _path(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)


def _on_host(tree: Any) -> Any:
    """Copy arrays to memory of their own, because the next step reuses that of the devices."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()  # all at once
    return jax.tree.map(np.array, tree)


def _has_no_traceback(record: logging.LogRecord) -> bool:
    """Whether a message of Orbax is to be shown: errors of its threads, which are raised in ours as well, are not."""
    return not record.exc_info


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Orbax from telling of what it was asked for, such as a manager that only reads, or of what is raised."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _drop_late_callbacks() -> None:
    """Keep Python from showing tracebacks of the reads and writes that end after the first one of a checkpoint has
    failed: there is nothing left that would take their errors, and that of the first is raised."""
    before = sys.unraisablehook
    if getattr(before, "drops_late_callbacks", False):
        return

    def hook(unraisable: Any) -> None:
        text = str(unraisable.exc_value)
        if text != "Event loop is closed" and "TensorStore" not in text:
            before(unraisable)

    hook.drops_late_callbacks = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def was_set_aside(workdir: Path) -> bool:
    """Return whether a damaged checkpoint of a run was set aside."""
    return any((workdir / "checkpoints").glob(f"{_SET_ASIDE}*"))


@contextlib.contextmanager
def of_run(workdir: Path) -> Iterator[Checkpoints]:
    """Open the checkpoints of a run, which may go on meanwhile, to be read.

    Raises:
      UserError: there is none.
    """
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    try:
        if checkpoints.latest() is None:
            raise UserError(f"{workdir} has no checkpoint yet: train it first")
        yield checkpoints
    finally:
        checkpoints.close()
