"""`--list`: the rows, and whether what they need is on this machine."""

import functools
from collections.abc import Callable, Sequence

from imgcls_jax.config import io as files
from imgcls_jax.display import tables
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError
from reproduction import at_hand
from reproduction.rows import Row

_HEADER = ("row", "data", "weights", "config", "what")


def show(chosen: Sequence[Row], overrides: Sequence[str]) -> None:
    """Print a line a row, and below the table what is missing.

    Args:
      chosen: the rows.
      overrides: settings that the command line changes, such as where the data lies.
    """
    lines: list[tuple[str, ...]] = []
    missing: dict[str, list[str]] = {}
    data_problem = functools.cache(lambda source: source.missing())  # many rows share a source
    for row in chosen:
        data, weights, problems = _state(row, overrides, data_problem)
        lines.append((row.id, data, weights, row.spec or "", row.what))
        for problem in problems:
            missing.setdefault(problem, []).append(row.id)
    console = Console()
    console.line(tables.plain(_HEADER, lines))
    for problem, ids in missing.items():
        console.line(f"\n{', '.join(ids)}: {problem}")


def _state(row: Row, overrides: Sequence[str], data_problem: Callable[..., str | None]) -> tuple[str, str, list[str]]:
    """A word on the data, one on the weights, and a sentence for each thing that is missing."""
    if row.spec is None:
        return "", "", []
    try:
        config = files.load(row.spec, overrides)
    except UserError as error:
        return "?", "?", [str(error)]
    no_data = data_problem(config.data.source)
    data = "missing" if no_data else "here"
    if row.starts_from:
        return data, f"row {row.starts_from}", [no_data] if no_data else []
    no_weights = at_hand.weights_problem(config.transfer)
    weights = "missing" if no_weights else "here" if config.transfer.init_from else ""
    return data, weights, [problem for problem in (no_data, no_weights) if problem]
