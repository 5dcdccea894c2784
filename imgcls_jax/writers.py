"""Where a run's figures go: metrics.jsonl always, TensorBoard and Weights & Biases if asked for."""

import json
import math
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax.errors import UserError

Record = dict[str, Any]
"""One epoch: {"epoch", "step", "learning_rate", "train": {…}, "validation": {…} or None, "seconds", …}."""


class Writers:
    """All of a run's writers. `history` is what is already known when a run resumes: metrics.jsonl is made to hold
    exactly these records, and TensorBoard drops the events after them."""

    def __init__(self, workdir: Path, config: c.Config, tree: dict[str, Any], history: list[Record]):
        self._jsonl = workdir / "metrics.jsonl"
        partial = self._jsonl.with_suffix(".partial")
        partial.write_text("".join(_line(record) for record in history))
        partial.replace(self._jsonl)
        self._tensorboard = None
        if config.logging.tensorboard:
            self._tensorboard = _start_tensorboard(workdir / "tensorboard", first_epoch=len(history))
        self._wandb = None
        if config.logging.wandb_project:
            self._wandb = _start_wandb(config.logging.wandb_project, config.name, tree, workdir)

    def write(self, record: Record) -> None:
        """Append one epoch's record everywhere, at once on disk."""
        with self._jsonl.open("a") as file:
            file.write(_line(record))
        scalars = _scalars(record)
        if self._tensorboard:
            for name, value in scalars.items():
                self._tensorboard.add_scalar(name, value, record["epoch"])
            self._tensorboard.flush()
        if self._wandb:
            self._wandb.log(scalars, step=record["epoch"])

    def close(self) -> None:
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish()


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _scalars(record: Record, prefix: str = "") -> dict[str, float]:
    """A record's numbers under names such as "validation/top1"."""
    flat: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[prefix + key] = value
    return flat


def _start_tensorboard(folder: Path, *, first_epoch: int) -> Any:
    # tensorboardX imports torch where it is installed, for inputs that are never given here: seconds, and memory.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=first_epoch)


def _start_wandb(project: str, name: str, tree: dict[str, Any], workdir: Path) -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError(
            "logging.wandb_project is set but Weights & Biases is not installed: pip install 'imgcls_jax[wandb]'"
        ) from None
    if os.environ.get("WANDB_MODE") != "offline" and not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError("Weights & Biases has no API key: run `wandb login`, or set WANDB_MODE=offline")
    # The run's id is the work directory's, so that a resumed run goes on in the same W&B run.
    identity = workdir / "wandb_id"
    if not identity.exists():
        identity.write_text(secrets.token_hex(4))
    return wandb.init(
        project=project, name=name, id=identity.read_text(), resume="allow", config=tree, dir=str(workdir)
    )
