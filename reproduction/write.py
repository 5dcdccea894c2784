"""The results of a reproduction as files: reproduction.json, reproduction.md and curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax.display import tables
from imgcls_jax.display.console import duration, percent
from imgcls_jax.record.json_files import write_json
from imgcls_jax.report import comparison
from imgcls_jax.report.record import RunRecord
from reproduction import results, rows
from reproduction.rows import Row

_NAME = "reproduction"
_INTRODUCTION = """# Reproduction

What five coursework reports state, and what this library measured. "best validation" is the best accuracy of all
epochs on the validation split; "validation" and "train" are those of the last epoch (training images as augmented,
over the epoch); "test" is the test accuracy of the best checkpoint. ± is the standard deviation between seeds.
"""
# Changed settings that the table names; the row's section names all.
_MOST_CHANGES = 3
# Which of our figures to show for a row of which the report states none that we measure.
_PREFERRED = ("test", "best validation", "train")


def problems(root: Path) -> dict[str, list[str]]:
    """What kept rows from finishing, as the last call left it."""
    path = root / f"{_NAME}.json"
    if not path.exists():
        return {}
    return {row["id"]: row["problems"] for row in json.loads(path.read_text())["rows"] if row["problems"]}


def write(root: Path, problems: dict[str, list[str]]) -> dict[str, Any]:
    """Write the JSON and the Markdown of everything that lies below `root`; return the JSON's content."""
    root.mkdir(parents=True, exist_ok=True)
    document = results.document(root, problems)
    write_json(root / f"{_NAME}.json", document)
    (root / f"{_NAME}.md").write_text(_markdown(root, dict(zip(rows.ROWS, document["rows"], strict=True))))
    return document


def row_curves(root: Path, row: Row) -> None:
    """Draw the curves of a row's finished runs."""
    if finished := results.runs(root, row):
        _side_by_side(root, row.id, {row.id: finished}, row.what)


def report_curves(root: Path, letter: str) -> None:
    """Draw the curves of all finished runs of a report: side by side, and on one plot."""
    runs = {row.id: results.runs(root, row) for row in rows.ROWS if row.id[0] == letter}
    finished = {name: records for name, records in runs.items() if records}
    if finished:
        title = f"report {letter}"
        _side_by_side(root, f"{letter}_side_by_side", finished, title)
        comparison.together(_histories(finished), root / "curves" / f"{letter}_together.png", title=title)


def _side_by_side(root: Path, name: str, runs: Mapping[str, Sequence[RunRecord]], title: str) -> None:
    (root / "curves").mkdir(exist_ok=True)
    targets = {row.id: value for row in rows.ROWS if (value := _target(row)) is not None}
    comparison.side_by_side(_histories(runs), root / "curves" / f"{name}.png", title=title, targets=targets)


def _histories(runs: Mapping[str, Sequence[RunRecord]]) -> comparison.Histories:
    return {name: [run.history for run in records] for name, records in runs.items()}


def _target(row: Row) -> float | None:
    """The reported accuracy that the validation curve is to reach; the last where there are several."""
    values = [figure.value for figure in row.reported if figure.like in ("validation", "best validation")]
    numbers = [value for value in values if isinstance(value, float)]
    return numbers[-1] if numbers else None


def _markdown(root: Path, found: dict[Row, dict[str, Any]]) -> str:
    """`found`: each row's part of the JSON."""
    parts = [_INTRODUCTION]
    measured = {row: part for row, part in found.items() if part["seeds"]}
    if measured:
        header = ("row", "what", "figure", "reported", "ours", "seeds", "epochs", "changed settings")
        lines = [cells for row, part in measured.items() for cells in _cells(row, part)]
        parts.append(tables.markdown(header, lines, left=4))
    for letter in dict.fromkeys(row.id[0] for row in measured):
        parts.append(f"## Report {letter}\n")
        parts += [line for name in ("side_by_side", "together") for line in _picture(root, f"{letter}_{name}")]
        parts += [line for row, part in measured.items() if row.id[0] == letter for line in _section(root, row, part)]
    parts += _unfinished(found)
    return "\n".join(parts)


def _cells(row: Row, part: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line a reported figure, and one of ours for a row without any that we measure."""
    ours = part["ours"]
    lines = [(figure.name, figure.text, _score(ours.get(figure.like))) for figure in row.reported]
    if not any(figure.like in ours for figure in row.reported):
        kind = next(kind for kind in _PREFERRED if kind in ours)
        lines.append((kind, "", _score(ours[kind])))
    epochs = " ".join(dict.fromkeys(map(str, part["epochs"])))
    changed = "; ".join(part["changed"][:_MOST_CHANGES]) or "none"
    if (more := len(part["changed"]) - _MOST_CHANGES) > 0:
        changed += f"; and {more} more, below"
    return [(row.id, row.what, *line, str(len(part["seeds"])), epochs, changed) for line in lines]


def _section(root: Path, row: Row, part: dict[str, Any]) -> list[str]:
    seconds = sum(part["seconds"]) / len(part["seconds"])
    where = " and ".join(part["machine"])
    lines = [f"### {row.id}: {row.what}\n", f"`{row.spec}`; {duration(seconds)} a seed on {where}.\n"]
    if row.note:
        lines.append(f"{row.note}\n")
    if part["changed"]:
        lines.append("Changed against the config:\n")
        lines.append("".join(f"- `{line}`\n" for line in part["changed"]))
    return lines + _picture(root, row.id)


def _picture(root: Path, name: str) -> list[str]:
    return [f"![{name}](curves/{name}.png)\n"] if (root / "curves" / f"{name}.png").exists() else []


def _unfinished(found: Mapping[Row, dict[str, Any]]) -> list[str]:
    """Why rows did not finish, those with the same reason together, and what their reports state."""
    reasons: dict[str, list[Row]] = {}
    for row, part in found.items():
        for problem in part["problems"]:
            reasons.setdefault(problem, []).append(row)
        if row.spec is None:
            reasons[row.note] = [row]
    open_rows = [row.id for row, part in found.items() if row.spec and not part["problems"] and not part["seeds"]]
    lines = []
    for reason, stopped in reasons.items():
        lines.append(" ".join(reason.split()) + "\n")
        lines.append("".join(f"- {_stated(row)}\n" for row in stopped))
    if open_rows:
        lines.append(f"Not asked for yet: {', '.join(open_rows)}.\n")
    return ["## Not finished, or not run\n", *lines] if lines else []


def _stated(row: Row) -> str:
    reported = "; ".join(f"{figure.name} {figure.text}" for figure in row.reported)
    return f"{row.id}: {row.what}" + (f" (reported: {reported})" if reported else "")


def _score(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return "not measured here"
    if scores["std"] is None:
        return percent(scores["mean"])
    return f"{100 * scores['mean']:.2f} ± {100 * scores['std']:.2f} %"
