"""A run's record, read back from its work directory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax.config import files
from imgcls_jax.errors import UserError
from imgcls_jax.writers import Record


@dataclass(frozen=True)
class RunRecord:
    """What a work directory tells of its run, without the parameters."""

    label: str
    """How tables and plots call the run."""
    workdir: Path
    config: c.Config
    history: list[Record]
    """One record an epoch."""
    result: dict[str, Any] | None
    """result.json; None while the run is unfinished."""


def read(workdir: Path, label: str | None = None) -> RunRecord:
    """The record of a run that finished an epoch or more; its label is the config's name unless one is given."""
    config = files.restore(workdir / "config.json")
    epochs = history(workdir)
    if not epochs:
        raise UserError(f"{workdir} has no finished epoch yet: train it first")
    return RunRecord(label or config.name, workdir, config, epochs, result(workdir))


def read_all(workdirs: Sequence[Path]) -> list[RunRecord]:
    """The records of several runs under labels that tell them apart: their configs' names, else the folders'."""
    resolved = [workdir.resolve() for workdir in workdirs]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise UserError(f"the work directory {workdirs[i]} is given twice")
    records = [read(workdir) for workdir in workdirs]
    if len({record.label for record in records}) == len(records):
        return records
    depth = 1
    while len(set(labels := ["/".join(path.parts[-depth:]) for path in resolved])) < len(resolved):
        depth += 1
    return [read(workdir, label) for workdir, label in zip(workdirs, labels, strict=True)]


def history(workdir: Path) -> list[Record]:
    """The epochs of metrics.jsonl; none where there is no such file."""
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def result(workdir: Path) -> dict[str, Any] | None:
    """The document of result.json; None where the run is unfinished."""
    path = workdir / "result.json"
    return json.loads(path.read_text()) if path.exists() else None
