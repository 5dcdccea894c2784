"""What the runs of a reproduction came to, read back from their work directories."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

from imgcls_jax.config import io as files
from imgcls_jax.report import record
from imgcls_jax.report.record import RunRecord
from imgcls_jax.tune.ablation import statistics
from reproduction import rows
from reproduction.rows import Row


def runs(root: Path, row: Row) -> list[RunRecord]:
    """The finished runs of a row, by seed."""
    folders = sorted((root / row.id).glob("seed_*"), key=lambda folder: int(folder.name.removeprefix("seed_")))
    return [record.read(folder, row.id) for folder in folders if record.result(folder) is not None]


def figures(run: RunRecord) -> dict[str, float]:
    """Accuracies of a finished run under the names of `rows.Kind`."""
    last = run.history[-1]
    found = {"train": last["train"]["top1"]}
    if last["validation"]:
        found["validation"] = last["validation"]["top1"]
        found["best validation"] = max(epoch["validation"]["top1"] for epoch in run.history)
    if run.result and run.result["test"]:
        found["test"] = run.result["test"]["top1"]
    corruptions = run.workdir / "corruptions.json"  # of `imgcls corruptions --workdir …`
    if corruptions.exists():
        score = json.loads(corruptions.read_text())
        if score["images"] == score["of"]:  # a part of the test images is no result
            found["distorted test"] = score["mean_accuracy"]
    return found


def document(root: Path, problems: dict[str, list[str]]) -> dict[str, Any]:
    """The content of reproduction.json: every row of the table with what is known of it.

    Args:
      root: folder of the reproduction.
      problems: row → sentences of what kept runs of it from finishing.
    """
    return {"rows": [_row(root, row, problems.get(row.id, [])) for row in rows.ROWS]}


def _row(root: Path, row: Row, problems: list[str]) -> dict[str, Any]:
    finished = runs(root, row)
    by_seed = {run.config.seed: figures(run) for run in finished}
    kinds = dict.fromkeys(kind for found in by_seed.values() for kind in found)
    ours = {}
    for kind in kinds:
        scores = {seed: found[kind] for seed, found in by_seed.items() if kind in found}
        estimate = statistics.estimate(list(scores.values()))
        assert estimate is not None, "a kind comes from a run"
        ours[kind] = {"mean": estimate.mean, "std": estimate.std, "by_seed": {str(s): x for s, x in scores.items()}}
    return {
        "id": row.id,
        "config": row.spec,
        "what": row.what,
        "note": row.note,
        "reported": [
            {"value": figure.value, "kind": figure.kind, "note": figure.note, "ours": figure.like}
            for figure in row.reported
        ],
        "seeds": list(by_seed),
        "ours": ours,
        "changed": _changed(row, finished),
        "epochs": [len(run.history) for run in finished],
        "seconds": [run.result["seconds"] for run in finished if run.result],
        "machine": _machines(finished),
        "problems": problems,
    }


def _changed(row: Row, finished: list[RunRecord]) -> list[str]:
    """In which settings the runs differ from the row's config: what a budget shrank and the command line set."""
    if row.spec is None or not finished:
        return []
    stated = files.load(row.spec)
    lines: dict[str, None] = {}
    for run in finished:
        config = dataclasses.replace(run.config, seed=stated.seed)
        if row.starts_from:  # where the earlier row's run lies is no departure
            transfer = dataclasses.replace(config.transfer, init_from=stated.transfer.init_from)
            config = dataclasses.replace(config, transfer=transfer)
        lines |= dict.fromkeys(files.difference(stated, config))
    return list(lines)


def _machines(finished: list[RunRecord]) -> list[str]:
    """On what the runs ran, each kind of machine once."""
    found: dict[str, None] = {}
    for run in finished:
        path = run.workdir / "environment.json"
        for start in json.loads(path.read_text()) if path.exists() else []:
            found[f"{start['machine']}; {_devices(start['devices'])}"] = None
    return list(found)


def _devices(devices: list[str]) -> str:
    """Such as "1 × gpu NVIDIA A100"; a CPU's kind is only "cpu" again."""
    counts = collections.Counter(" ".join(dict.fromkeys(device.split())) for device in devices)
    return ", ".join(f"{count} × {name}" for name, count in counts.items())
