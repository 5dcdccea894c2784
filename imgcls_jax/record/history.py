"""Read the records that a run leaves in metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls_jax.errors import UserError
from imgcls_jax.record import documents, strict
from imgcls_jax.record.documents import EpochRecord, EvaluationRecord, StepRecord
from imgcls_jax.record.json_files import read_json_lines

Record = Mapping[str, Any]
"""A record of an epoch, whose keys a program computes; see `documents.EpochRecord`."""

_KINDS = {"epoch": EpochRecord, "evaluation": EvaluationRecord, "step": StepRecord}


def read(workdir: Path) -> list[dict[str, Any]]:
    """Read every record of a run's metrics.jsonl, of all kinds; none where there is no such file.

    Raises:
      UserError: the file is damaged, or another version's.
    """
    path = workdir / "metrics.jsonl"
    records = read_json_lines(path) if path.exists() else []
    for record in records[:1]:
        documents.check(record, str(path))
    return [_decoded(record, f"{path}, line {number},") for number, record in enumerate(records, start=1)]


def _decoded(record: Any, what: str) -> dict[str, Any]:
    kind = _KINDS.get(str(record.get("kind"))) if isinstance(record, dict) else None
    if kind is None:
        raise UserError(f"{what} is damaged: it is no record of a run")
    decoded = strict.decode(record)
    documents.check_fields(decoded, kind, what)
    return decoded


def epochs(workdir: Path) -> list[EpochRecord]:
    """Read the records of a run's epochs from metrics.jsonl; none where there is no such file."""
    return [record for record in read(workdir) if record["kind"] == "epoch"]  # type: ignore[misc]
