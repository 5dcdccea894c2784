"""Rows of a table that cannot be used: refused together, and listed in a file."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError

# Rows that a message names; the file has all.
_NAMED = 3


class BadRow(NamedTuple):
    """A row with a mistake."""

    line: int
    """Line of the file in which it ends, or of a Parquet file its row, both from 1."""
    file: str
    """Its cell for the file."""
    label: str
    kind: str
    """The kind of mistake: "missing file", "empty cell", …"""
    reason: str


class BadRows(UserError):
    """A table has rows that cannot be used; the message counts them and names the first ones."""

    def __init__(self, table: str, rows: Sequence[BadRow], total: int):
        """
        Args:
          table: how the message calls the table.
          rows: those with mistakes, by line.
          total: number of all rows.
        """
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in Counter(row.kind for row in rows).most_common())
        first = "; ".join(f"line {row.line}: {row.reason}" for row in rows[:_NAMED])
        more = "; …" if len(rows) > _NAMED else ""
        super().__init__(f"{len(rows):,} of {total:,} rows of {table} cannot be used ({kinds}): {first}{more}")
        self.rows = tuple(rows)

    def listed_in(self, workdir: Path) -> str:
        """Write all of them to WORKDIR/bad_rows.csv: line, file, label, reason. Return the message that says so."""
        path = workdir / "bad_rows.csv"
        with outputs.writing(path) as file:
            writer = csv.writer(file)
            writer.writerow(["line", "file", "label", "reason"])
            writer.writerows((row.line, row.file, row.label, row.reason) for row in self.rows)
        return f"{self}; all are listed in {path}"
