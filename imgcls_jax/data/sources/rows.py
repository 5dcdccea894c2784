"""Read the rows of a table: CSV and TSV, a JSON object a line, Parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from imgcls_jax.errors import UserError, short

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Tables that are read; case does not matter."""

_SEPARATORS = ",;\t|"
_NOT_READ = {
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".json": "write one JSON object per line, as FILE.jsonl",
    ".txt": "call it .csv, or .tsv if tabs separate its columns",
}


class Row(NamedTuple):
    """A row of a table."""

    line: int
    """Line of the file in which it ends, or of a Parquet file its row, both from 1."""
    cells: Mapping[str, str]
    """Text of each cell by its column, without spaces around it; "" where it is empty or missing."""
    fault: str = ""
    """Why it has no cells to speak of; "" where it has."""


@dataclass(frozen=True)
class Rows:
    """A table."""

    columns: tuple[str, ...]
    rows: list[Row]


def read(path: Path) -> Rows:
    """Read all rows of a table, every cell as text.

    A CSV file's first line names its columns; they are separated by the first of comma, semicolon, tab and bar that
    occurs in it. Blank lines are passed over.

    Raises:
      UserError: there is no such file, it is no table, or it cannot be read as what its suffix says.
    """
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], Rows]] = {
        ".csv": lambda file: _separated(file, None),
        ".tsv": lambda file: _separated(file, "\t"),
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if not path.is_file():
        raise UserError(f"{path} is a folder, not a table" if path.is_dir() else f"there is no table {path}")
    if suffix not in readers:
        hint = f": {_NOT_READ[suffix]}" if suffix in _NOT_READ else ""
        raise UserError(f"{path} is none of the tables that are read, {', '.join(SUFFIXES)}{hint}")
    try:
        found = readers[suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found.rows:
        raise UserError(f"{path} has no rows")
    return found


def _separated(path: Path, separator: str | None) -> Rows:
    with _opened(path) as file:
        first = file.readline()
        file.seek(0)
        if separator is None:
            separator = min((s for s in _SEPARATORS if s in first), key=_SEPARATORS.index, default=",")
        reader = csv.reader(file, delimiter=separator)
        lines = _lines(path, reader)
        header = next(lines, None)
        if header is None:
            raise UserError(f"{path} is empty: its first line must name the columns")
        columns = tuple(_text(name) for name in header[1])
        if twice := next((name for i, name in enumerate(columns) if name and name in columns[:i]), None):
            raise UserError(f'{path} has two columns "{twice}": rename one of them')
        rows = []
        for line, cells in lines:
            wrong = f"it has {len(cells)} cells, and the header {len(columns)}" if len(cells) != len(columns) else ""
            rows.append(Row(line, dict(zip(columns, map(_text, cells), strict=False)), wrong))
        return Rows(columns, rows)


def _opened(path: Path) -> IO[str]:
    # utf-8-sig: spreadsheets begin a file with a byte order mark.
    return open(path, encoding="utf-8-sig", newline="")


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}: is it a text file with one row per line?") from None


def _json_lines(path: Path) -> Rows:
    columns: dict[str, None] = {}
    rows = []
    with _opened(path) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                rows.append(Row(line, {}, f"it is not JSON: {error}"))
                continue
            if not isinstance(record, dict):
                rows.append(Row(line, {}, f"it must be a JSON object, not {short(record)}"))
                continue
            columns |= dict.fromkeys(map(_text, record))
            rows.append(_row(line, record.items()))
    return Rows(tuple(columns), rows)


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow  # Here: it is an extra, and large.
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{path} needs pyarrow, which is not installed: run pip install 'imgcls_jax[parquet]', or save it as CSV"
        ) from None
    try:
        table = parquet.read_table(path)
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a Parquet file that can be read: {' '.join(str(error).split())}") from None
    names = [_text(name) for name in table.column_names]
    return Rows(
        tuple(names),
        [_row(line, zip(names, cells, strict=True)) for line, cells in enumerate(zip(*columns, strict=True), 1)],
    )


def _row(line: int, items: Iterable[tuple[str, Any]]) -> Row:
    return Row(line, {_text(name): _text(value) for name, value in items})


def _text(value: Any) -> str:
    """Return a cell as CSV would hold it: 3 for 3.0, which is what a column of whole numbers with gaps becomes."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
