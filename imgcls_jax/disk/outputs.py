"""Write output files: one that cannot be written is said before the work, and each appears whole or not at all."""

import contextlib
import csv
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from imgcls_jax.errors import UserError

# What a write says of a disk that is full or lost; other OSErrors may come from the work itself.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextlib.contextmanager
def writing(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing that takes its place when the block ends, and not at all where the block fails.

    Enter it before the work whose result it takes, so that a path that cannot be written is found out first. Text is
    UTF-8; names of files that are not UTF-8 are written as their bytes. Line ends are written as they are given. What
    is no regular file, such as /dev/stdout, is written directly.

    Raises:
      UserError: the file cannot be written, or the disk is full.
    """
    _refuse_url(path)
    path = Path(path)
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = _place(path)
        if place is not None:
            partial = place.with_name(f".{place.name[:60]}.{os.getpid()}.partial")
        file = _open(partial or path, binary)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with file:
            yield file
            file.flush()
            if partial is not None:
                os.fsync(file.fileno())
        if partial is not None and place is not None:
            partial.replace(place)
    except OSError as error:
        if error.errno in _DISK:
            raise _unwritable(path, error) from error
        raise
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all; see `writing`."""
    with writing(path) as file:
        file.write(text)


def write_csv(path: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """Write a table, whole or not at all; see `writing`. Lines end with a newline alone."""
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def make_folder(path: Path) -> None:
    """Make a folder for outputs, unless it is there, and find out whether files can be written into it.

    Raises:
      UserError: they cannot.
    """
    _refuse_url(path)
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        trial = Path(path) / f".{os.getpid()}.partial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _refuse_url(path: Path | str) -> None:
    """Refuse what would become a folder of the name "gs:" here. A drive's name, as in C:/, has one letter."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(path))
    if scheme:
        raise UserError(
            f"{path} is in a bucket or on a server ({scheme[1]}), and files are written to folders alone: mount it "
            "(gcsfuse, s3fs, rclone mount), and give the folder"
        )


def _place(path: Path) -> Path | None:
    """Return the file that is to be replaced, behind links; None for what is no regular file.

    Raises:
      OSError: it is a folder, or a file that must not be changed.
    """
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder: give the name of a file")
    if not stat.S_ISREG(mode):
        return None
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return place


def _open(path: Path, binary: bool) -> IO[Any]:
    if binary:
        return open(path, "wb")
    return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror or error}")
