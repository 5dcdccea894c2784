"""A table whose rows name image files and their classes."""

import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imgcls_jax.config.data import Data, PathText, Source
from imgcls_jax.data.bad_rows import BadRow, BadRows
from imgcls_jax.data.examples import Examples, Labels, Progress, Splits, no_progress
from imgcls_jax.data.files import ImageFile, ImageFiles, described
from imgcls_jax.data.sources import layout, rows
from imgcls_jax.data.sources.folder import alike
from imgcls_jax.data.sources.rows import Row
from imgcls_jax.errors import UserError, did_you_mean

USUAL = {
    "file": ("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "img"),
    "label": ("label", "class", "class_name", "target", "category", "species", "breed", "y"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "patient", "patient_id", "subject", "session", "video"),
}
"""Names of columns that are looked for where a setting names none; case does not matter."""

# Rows between two reports of the progress, and columns that a message names.
_STEP, _NAMED = 1024, 8
_GAP = " · "  # between several numbers of a row


class Table(Source):
    """A table whose rows name image files and their classes: CSV, TSV, a JSON object a line, or Parquet (which needs
    the extra `parquet`). Every row with a mistake is listed: a missing file, an empty cell, an unknown class, an image
    named twice."""

    path: PathText
    """The table: FILE.csv (separated by commas, semicolons, tabs or bars), FILE.tsv, FILE.jsonl or FILE.parquet."""
    folder: PathText | None = None
    """The folder that the files are relative to; None: the table's own."""
    file: str | None = None
    """Column of the image files; None: the one called file, filename, path, image, … (docs/data.md)."""
    label: str | None = None
    """Column of the classes: names, or numbers; None: the one called label, class, target, category, …"""
    split: str | None = None
    """Column of the split: train, val or test, or another usual name of them; None: the one called split, subset or
    partition, if there is one; "": none, all rows are training images."""
    group: str | None = None
    """Column of what the images have in common, such as the patient: no group is divided among held-out splits; None:
    the one called group, patient, subject, session or video, if there is one; "": none."""
    suffix: str = ""
    """What the cells of the files lack at their end, such as ".jpg"."""
    class_names: tuple[str, ...] = ()
    """The classes in order, where labels are their numbers from 0, or to fix the order of names. (): the labels of the
    training rows are the names, in sorted order; whole numbers sort by their values."""
    separator: str = ""
    """What stands between the labels of an image that has several, such as "|" or ", ": the loss is then `MultiLabel`,
    and an empty cell means none of them. "": each image has one class."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers to predict in place of classes: the loss is then `MSE` or `Huber`. (): classes."""
    labeled_test: bool = True
    """False: the classes of the test rows are unknown, so that these are left out here and are for `predict` only."""

    def open(self, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress | None = None) -> Splits:
        """Read the table, and look for every file that it names.

        Raises:
          BadRows: rows have mistakes.
          UserError: there is no such table, it cannot be read, or it lacks a column or training rows.
        """
        on_progress = on_progress or no_progress
        path = Path(os.path.expanduser(self.path))
        on_progress(f"reading the table {path}", 0, None)
        table = rows.read(path)
        columns = self._columns(path, table.columns)
        for name in self.numbers:
            if name not in table.columns:
                raise UserError(
                    f'{path} has no column "{name}" (data.source.numbers){did_you_mean(name, table.columns)}: its '
                    f"columns are {_quoted(table.columns)}"
                )
        reading = _Reading(self, path, columns)
        for done, row in enumerate(table.rows):
            reading.add(row)
            if done % _STEP == 0:
                on_progress(f"looking for the files of {path}", done, len(table.rows))
        return reading.splits(_notes(self, columns))

    def check(self, data: Data) -> None:
        """Refuse numbers beside labels."""
        if self.numbers and (self.separator or self.label or self.class_names):
            raise UserError(
                "data.source.numbers names columns to predict in place of labels: leave out label, separator and "
                "class_names, or numbers"
            )

    def missing(self) -> str | None:
        """Return whether the table is there, without looking for its files."""
        path = Path(os.path.expanduser(self.path))
        return None if path.is_file() else f"there is no table {path}"

    def _columns(self, path: Path, known: Sequence[str]) -> dict[str, str]:
        """The column of each role that the table has: as set, or by its usual name."""
        found = {}
        for role, usual in USUAL.items():
            if role == "label" and self.numbers:
                continue
            name = getattr(self, role)
            if name:
                if name not in known:
                    raise UserError(
                        f'{path} has no column "{name}" (data.source.{role}){did_you_mean(name, known)}: its columns '
                        f"are {_quoted(known)}"
                    )
                found[role] = name
            elif name is None:
                fitting = [column for column in known if column.lower().replace(" ", "_") in usual]
                if len(fitting) > 1:
                    raise UserError(
                        f"{path} has the columns {_quoted(fitting)}, each of which may be its {role}: say which by "
                        f"data.source.{role}"
                    )
                if fitting:
                    found[role] = fitting[0]
        for role in ("file", "label"):
            if role not in found and not (role == "label" and self.numbers):
                raise UserError(
                    f"{path} has no column that is called like a {role} ({', '.join(USUAL[role][:6])}, …): its columns "
                    f"are {_quoted(known)}; set data.source.{role}, or add a header if it has none"
                )
        return found


@dataclass
class _Split:
    """The sound rows of one split."""

    lines: list[int] = field(default_factory=list)
    files: list[ImageFile] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


class _Reading:
    """Sorts rows into splits, and notes those with mistakes."""

    def __init__(self, settings: Table, path: Path, columns: Mapping[str, str]):
        self.settings, self.path, self.columns = settings, path, columns
        # Not resolved: links stay as they are named.
        self.root = Path(os.path.abspath(os.path.expanduser(settings.folder) if settings.folder else path.parent))
        self.found = {name: _Split() for name in layout.NAMES}
        self.bad: list[BadRow] = []
        self._seen: dict[str, tuple[int, str, str]] = {}  # line, split and label of each file

    def add(self, row: Row) -> None:
        """Take a row in, or note what is wrong with it."""
        cells = {role: row.cells.get(column, "") for role, column in self.columns.items()}
        if self.settings.numbers:  # shown as one text
            cells["label"] = _GAP.join(row.cells.get(column, "") for column in self.settings.numbers)
        label = unicodedata.normalize("NFC", cells["label"])
        split = layout.split_of(cells["split"]) if "split" in cells else "train"
        if split == "test" and not self.settings.labeled_test and not row.fault:
            return
        kind, reason = ("unreadable row", row.fault) if row.fault else self._fault(cells, split)
        if not reason:
            file = described(Path(os.path.normpath(self.root / (cells["file"] + self.settings.suffix))))
            kind, reason = self._fault_of_file(file, split, label)
        if reason:
            self.bad.append(BadRow(row.line, cells["file"], cells["label"], kind, reason))
            return
        assert split is not None
        into = self.found[split]
        into.lines.append(row.line)
        into.files.append(file)
        into.labels.append(label)
        into.groups.append(cells.get("group", ""))
        self._seen[os.path.normcase(file.name)] = row.line, split, label

    def _fault(self, cells: Mapping[str, str], split: str | None) -> tuple[str, str]:
        """The kind of mistake in the cells, and what it is; two empty texts if they are sound."""
        may_be_empty = "label" if self.settings.separator or self.settings.numbers else ""
        if empty := [role for role, cell in cells.items() if not cell and role != may_be_empty]:
            return "empty cell", f'"{self.columns[empty[0]]}" is empty'
        if self.settings.numbers:
            for column, cell in zip(self.settings.numbers, cells["label"].split(_GAP), strict=True):
                if not _is_number(cell):
                    return "no number", f'"{column}" is "{cell}", which is no finite number'
        if split is None:
            hint = did_you_mean(cells["split"], layout.EVERY_NAME) or ": train, val and test are splits"
            return "unknown split", f'"{cells["split"]}" is no split{hint}'
        return "", ""

    def _fault_of_file(self, file: ImageFile, split: str | None, label: str) -> tuple[str, str]:
        if (seen := self._seen.get(os.path.normcase(file.name))) is not None:
            line, other_split, other_label = seen
            differs = f' as "{other_label}"' if other_label != label else ""
            differs += f" in {other_split}" if other_split != split else ""
            return "file named twice", f"{file.name} is also named in line {line}{differs}"
        if file.size or file.modified:
            return ("not a file", f"{file.path} is a folder") if file.path.is_dir() else ("", "")
        return "missing file", f"there is no file {file.path}{self._hint(file.path)}"

    def _hint(self, path: Path) -> str:
        """What the cell may lack, said of the first missing file alone."""
        if any(row.kind == "missing file" for row in self.bad):
            return ""
        if not self.root.is_dir():
            return f" (there is no folder {self.root}: set data.source.folder)"
        near = next(
            (path.name + end for end in (".jpg", ".png", ".jpeg") if path.with_name(path.name + end).is_file()), ""
        )
        return f' (but {near}: set data.source.suffix = "{near.removeprefix(path.name)}")' if near else ""

    def splits(self, notes: Sequence[str]) -> Splits:
        """Give the splits, if no row has a mistake."""
        train_labels = [name for label in self.found["train"].labels for name in self._names(label)]
        class_names = self.settings.numbers or self.settings.class_names or sorted_labels(set(train_labels))
        numbers = {name: number for number, name in enumerate(class_names)}
        if self.settings.class_names:
            numbers = {str(number): number for number in range(len(class_names))} | numbers
        labels = {name: self._numbers(name, numbers) for name in self.found}
        if self.bad:
            raise self._refusal()
        train = self.found["train"]
        if not train.files:
            raise UserError(f"{self.path} has no training rows: its splits are those of {self._filled()}")
        splits = {
            name: Examples.of_files(
                name,
                ImageFiles.of(split.files),
                labels[name],
                self.root,
                groups=split.groups if "group" in self.columns else None,
            )
            for name, split in self.found.items()
            if split.files
        }
        title = f"the table {self.path}"
        notes = [*notes, *alike(class_names)]
        return Splits(
            splits["train"], splits.get("validation"), splits.get("test"), tuple(class_names), title, tuple(notes)
        )

    def _names(self, label: str) -> list[str]:
        """The classes in a cell."""
        separator = self.settings.separator
        return [label] if not separator else [name.strip() for name in label.split(separator) if name.strip()]

    def _numbers(self, name: str, numbers: Mapping[str, int]) -> Labels:
        """The number of each label of a split; a label that is no class is a mistake."""
        split = self.found[name]
        if self.settings.numbers:
            values = [label.split(_GAP) for label in split.labels]
            return np.array(values, np.float64).astype(np.float32).reshape(-1, len(self.settings.numbers))
        for line, file, cell in zip(split.lines, split.files, split.labels, strict=True):
            for label in [label for label in self._names(cell) if label not in numbers][:1]:
                where = "none of data.source.class_names" if self.settings.class_names else "no class of training rows"
                reason = f'"{label}" is {where}{did_you_mean(label, numbers)}'
                self.bad.append(BadRow(line, file.name, label, "unknown class", reason))
        if self.settings.separator:
            has = np.zeros((len(split.labels), len(set(numbers.values()))), np.uint8)
            for row, cell in enumerate(split.labels):
                has[row, [numbers[label] for label in self._names(cell) if label in numbers]] = 1
            return has
        return np.asarray([numbers.get(label, 0) for label in split.labels], np.int32)

    def _refusal(self) -> BadRows:
        self.bad.sort()
        total = len(self.bad) + sum(len(split.files) for split in self.found.values())
        total -= sum(row.kind == "unknown class" for row in self.bad)
        return BadRows(f"{self.path}", self.bad, total)

    def _filled(self) -> str:
        return " and ".join(name for name, split in self.found.items() if split.files) or "no sound row"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def sorted_labels(labels: set[str]) -> Sequence[str]:
    """Sort labels by name, or by value where all are whole numbers."""
    whole = all(label.isascii() and label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label), label)) if whole else sorted(labels)


def _notes(settings: Table, columns: Mapping[str, str]) -> list[str]:
    """Say which columns were taken without having been named."""
    taken = [f'"{column}" as the {role}' for role, column in columns.items() if getattr(settings, role) is None]
    return [f"columns of the table: {', '.join(taken)}"] if taken else []


def _quoted(names: Sequence[str]) -> str:
    named = ", ".join(f'"{name}"' for name in names[:_NAMED]) or "none"
    return named + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
