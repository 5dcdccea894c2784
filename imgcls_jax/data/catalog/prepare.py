"""Prepare a set of the tfds catalog: download, verify, and write it as tfds does."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock

from imgcls_jax.data.catalog import entries
from imgcls_jax.data.catalog.archives import Archives
from imgcls_jax.data.catalog.without_tensorflow import standing_in
from imgcls_jax.data.examples import Progress
from imgcls_jax.data.sources.tfds import is_written, open_builder
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(name: str, data_dir: Path, on_progress: Progress) -> None:
    """Write a set below `data_dir` unless it is there; atomic, and once by several processes.

    Archives are kept in `downloads/SET` below `data_dir`. What a killed process left of a download or of unpacked
    archives is used; a set that was being written is written again.

    Args:
      name: of a set in `entries.ENTRIES`, with an optional version or configuration.
      data_dir: the folder of tfds's sets; made if missing.
      on_progress: called with a label and how far it is.

    Raises:
      UserError: no connection, a wrong file, no room, or a folder that cannot be written.
    """
    entry = entries.ENTRIES[entries.base_name(name)]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{entry.name}.lock"):
            builder = open_builder(name, data_dir, file_format="array_record")
            if not is_written(builder):
                _write(builder, entry, data_dir, on_progress)
    except OSError as error:
        raise UserError(
            f"the set {name} cannot be written to {data_dir} ({_reason(error)}): make room, or set "
            "data.source.data_dir or $TFDS_DATA_DIR to another folder; what was downloaded is kept"
        ) from error


def _reason(error: OSError) -> str:
    """Why a write failed; tfds raises errors that have lost their number anew."""
    first: BaseException = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    if isinstance(first, OSError):
        return "the disk is full" if first.errno in _FULL else first.strerror or str(first)
    return str(error)


def _write(builder: Any, entry: entries.Entry, data_dir: Path, on_progress: Progress) -> None:
    _remove_unfinished(Path(builder.data_dir))
    console = Console()
    folder = data_dir / "downloads" / entry.name
    archives = Archives(entry, entries.files(builder), folder, on_progress, console.line)
    builder._make_download_manager = lambda **_: archives
    _count(builder, entry, on_progress)
    tfds.disable_progress_bar()
    builder._log_download_bytes = builder._log_download_done = lambda: None  # It is said here, with the size.
    with standing_in(builder):
        builder.download_and_prepare()
    archives.remove_extracted()
    console.line(f"{builder.info.full_name} is prepared in {builder.data_dir}; its archives are kept in {folder}")


def _count(builder: Any, entry: entries.Entry, on_progress: Progress) -> None:
    """Make a builder say how many images it has written."""
    generate, total, done = builder._generate_examples, sum(entry.images.values()), 0

    def counted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        nonlocal done
        for example in generate(*args, **kwargs):
            yield example
            done += 1
            on_progress(f"preparing {entry.name}", done, total)

    builder._generate_examples = counted


def _remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left of the set; the caller holds its lock."""
    if folder.parent.is_dir():
        for entry in folder.parent.iterdir():
            if entry.name.startswith("incomplete.") and entry.name.endswith(f"_{folder.name}"):
                shutil.rmtree(entry, ignore_errors=True)
