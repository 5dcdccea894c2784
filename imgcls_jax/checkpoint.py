"""Orbax checkpoints of a run: the latest and the best, saved in the background and atomically.

A checkpoint is a folder WORKDIR/checkpoints/STEP with two items: `state`, the arrays of the TrainState, and `run`, a
JSON document with everything else that resuming or using the model needs: how far the loop was, its history, the best
epoch so far, and the model's card (class names, preprocessing, config).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from imgcls_jax.errors import UserError


class Checkpoints:
    """The checkpoints of one work directory.

    A save first removes what is neither the latest finished checkpoint nor the best one, so that at every moment, a
    kill included, the newest finished checkpoint and the best one are on disk.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        """Of the run's own process, or `read_only` for everyone else: nothing of a run that goes on is touched."""
        # Unfinished checkpoints of a killed run lie under temporary names; its next process clears them away, at the
        # latest before its first save.
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            item_names=("state", "run"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None, cleanup_tmp_directories=not read_only, read_only=read_only, create=not read_only
            ),
        )

    def latest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, run: dict[str, Any]) -> None:
        """Save in the background; run["best"] is the step of the best checkpoint, which stays."""
        self._manager.wait_until_finished()
        keep = {self._manager.latest_step(), run["best"], step}
        for old in self._manager.all_steps():
            if old not in keep:
                self._manager.delete(old)
        self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
        )

    def run(self, step: int) -> dict[str, Any]:
        """The JSON document of a checkpoint."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"the checkpoint {self._path(step)} cannot be read: {error}") from error

    def state(self, step: int, like: Any) -> Any:
        """The state of a checkpoint, with the shapes, types and shardings of `like` (arrays or ShapeDtypeStructs)."""
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"the checkpoint {self._path(step)} does not fit this model: {error}") from error
        return restored.state

    def arrays(self, step: int) -> dict[str, Any]:
        """The state of a checkpoint as it lies on disk: nested dicts of arrays, with text keys."""
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state

    def wait(self) -> None:
        """Return when the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def _path(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)


@contextlib.contextmanager
def of_run(workdir: Path) -> Iterator[tuple[Checkpoints, int]]:
    """The checkpoints of a run, which may go on meanwhile, to be read; and the step of the newest one.

    Raises:
      UserError: there is none.
    """
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    try:
        newest = checkpoints.latest()
        if newest is None:
            raise UserError(f"{workdir} has no checkpoint yet: train it first")
        yield checkpoints, newest
    finally:
        checkpoints.close()
