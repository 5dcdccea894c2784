"""From measurements to a Markdown table, and how many lines a user writes."""

import ast
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.jobs import JOBS

MEASURING = "# bench"
"""Ends a line that is there only for the benchmark."""

_HEADER = (
    "| | images/s | peak memory, MiB | to first step, s | whole command, s | lines | accuracy, % | ours / theirs |",
    "|---|---|---|---|---|---|---|---|",
)


def user_lines(source: str, job: str) -> int:
    """Count the lines of a program that its user writes for one job.

    Blank lines, comments, docstrings and lines that only measure do not count, nor do functions and classes that only
    other jobs use.
    """
    tree = ast.parse(source)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    left_out = {name for name in defined if name in JOBS and name != job}
    while True:  # and what only those use
        of_others = {name for other in left_out for name in _names(defined[other]) if name in defined} - left_out
        kept = [node for node in tree.body if getattr(node, "name", None) not in left_out]
        unused = {
            name for name in of_others if not any(name in _names(node) for node in kept if node is not defined[name])
        }
        if not unused:
            break
        left_out |= unused
    dropped: set[int] = set()
    for name in left_out:
        dropped |= set(range(defined[name].lineno, (defined[name].end_lineno or 0) + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            text = node.body[0]
            dropped |= set(range(text.lineno, (text.end_lineno or 0) + 1))
    return sum(
        bool(line.strip())
        and not line.strip().startswith("#")
        and not line.endswith(MEASURING)
        and number not in dropped
        for number, line in enumerate(source.splitlines(), 1)
    )


def _names(tree: ast.AST) -> set[str]:
    """The names that a part of a program mentions."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def markdown(results: Mapping[str, Mapping[str, Any]], lines: Mapping[str, Mapping[str, int]]) -> str:
    """Write a table a job, a row a side: medians over rounds.

    Args:
      results: job → side → {"rounds": measurements} or {"cannot": why}, and perhaps {"note"}.
      lines: side → job → lines a user writes.
    """
    parts = []
    for job, sides in results.items():
        rows, notes = [*_HEADER], []
        ours = _median(sides["ours"]["rounds"], "images_per_second") if sides.get("ours", {}).get("rounds") else None
        for side, result in sides.items():
            if not result.get("rounds"):
                notes.append(f"{side}: {result['cannot']}.")
                continue
            rows.append(_row(side, result["rounds"], lines.get(side, {}).get(job), ours))
            if note := result.get("note"):
                notes.append(f"{side}: {note}.")
        rounds = {len(result["rounds"]) for result in sides.values() if result.get("rounds")}
        counted = "–".join(str(count) for count in sorted({min(rounds), max(rounds)})) if rounds else "no"
        title = f"**{JOBS[job].title}**; {counted} round{'' if counted == '1' else 's'}"
        parts.append("\n".join([title, "", *rows, *(["", *notes] if notes else [])]))
    return "\n\n".join(parts)


def _row(side: str, rounds: Sequence[Mapping[str, Any]], lines: int | None, ours: float | None) -> str:
    rate, memory = _median(rounds, "images_per_second"), _median(rounds, "memory")
    cells = [
        side,
        f"{rate:.3g}" if rate is not None and rate < 100 else f"{rate:.0f}",
        "–" if memory is None else f"{memory / 2**20:,.0f}",
        f"{_median(rounds, 'first_step'):.1f}",
        f"{_median(rounds, 'total'):.1f}",
        "–" if lines is None else str(lines),
        f"{100 * (_median(rounds, 'accuracy') or 0):.1f}",
        "–" if ours is None or side == "ours" or not rate else f"{ours / rate:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _median(rounds: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [measured[key] for measured in rounds if measured.get(key) is not None]
    return statistics.median(values) if values else None
