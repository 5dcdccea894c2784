"""Read the record of a run from its work directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.record import documents, history, strict
from imgcls_jax.record.documents import EpochRecord, Result
from imgcls_jax.record.json_files import read_json


@dataclass(frozen=True)
class RunRecord:
    """What a work directory says about its run, without the parameters."""

    label: str
    """What tables and plots call the run."""
    workdir: Path
    config: c.Config
    history: list[EpochRecord]
    """One record per epoch."""
    result: Result | None
    """result.json; None while the run is unfinished."""


def read(workdir: Path, label: str | None = None) -> RunRecord:
    """Read the record of a run.

    Args:
      workdir: folder of the run.
      label: what to call it; None: the name of its config.

    Raises:
      UserError: it is not the folder of a run, no epoch is finished yet, or a file of it is damaged.
    """
    config = files.restore(workdir / "config.json")
    epochs = history.epochs(workdir)
    if not epochs:
        raise UserError(f"{workdir} has no finished epoch yet: train it first")
    return RunRecord(label or config.name, workdir, config, epochs, result(workdir))


def read_all(workdirs: Sequence[Path]) -> list[RunRecord]:
    """Read the records of several runs.

    They are labeled by the names of their configs or, if these are not distinct, by the ends of their paths.

    Raises:
      UserError: as `read`, or a folder is given twice.
    """
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


def result(workdir: Path) -> Result | None:
    """Read result.json; None where the run is unfinished.

    Raises:
      UserError: it is damaged, or was written by another version.
    """
    path = workdir / "result.json"
    if not path.exists():
        return None
    document = read_json(path)
    documents.check(document, str(path))
    decoded = strict.decode(document)
    documents.check_fields(decoded, Result, str(path))
    return decoded  # type: ignore[return-value]
