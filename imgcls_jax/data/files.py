"""Find image files below a folder, and read a file: regular files within a budget, whatever the file system holds."""

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from imgcls_jax.data import arrays
from imgcls_jax.data.image_formats import SUFFIXES

# What operating systems and storage leave in folders: copies, thumbnails and deleted files.
_SYSTEM = frozenset(("__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"))
# Without it, opening a pipe that nobody writes to waits for ever; not on Windows, which has no such files.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# Folders with reasons that a message names; the others are counted.
_NAMED = 3
_PART = 2**12


class ImageFile(NamedTuple):
    """An image file that was found."""

    name: str
    """Its path, as text, which is made and sorted faster than a `Path`."""
    size: int
    """Bytes; 0 where that cannot be found out."""
    modified: int
    """Time of the last change, ns; 0 where that cannot be found out."""
    changed: int = 0
    """Time of the last change of the content, the name or the permissions, ns, which no program can set, unlike that of
    the content alone; 0 where that cannot be found out."""

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self.name)

    @property
    def version(self) -> str:
        """A text that changes with the file."""
        return f"{self.size} {self.modified} {self.changed}"


@dataclass(frozen=True)
class ImageFiles:
    """Many image files: a text and three numbers of each, in less than half the memory of `ImageFile`s."""

    names: list[str]
    numbers: Int64[np.ndarray, "n 3"]
    """Bytes, and the times of both changes, as in `ImageFile`."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, files: Sequence[ImageFile]) -> "ImageFiles":
        """Take the columns of some files."""
        numbers = np.fromiter(itertools.chain.from_iterable(file[1:] for file in files), np.int64, 3 * len(files))
        return cls([file.name for file in files], numbers.reshape(-1, 3))

    @classmethod
    def joined(cls, parts: Sequence["ImageFiles"]) -> "ImageFiles":
        """Put one or more after one another."""
        names = list(itertools.chain.from_iterable(part.names for part in parts))
        return cls(names, np.concatenate([part.numbers for part in parts]))


def versions(numbers: Int64[np.ndarray, "n 3"]) -> Iterator[str]:
    """Give `ImageFile.version` of each row; some at a time, because Python's numbers take more than an array's."""
    for start in range(0, len(numbers), _PART):
        for size, modified, changed in numbers[start : start + _PART].tolist():
            yield f"{size} {modified} {changed}"


@dataclass
class PassedOver:
    """What a search for images came upon and did not take."""

    suffixes: Counter[str] = field(default_factory=Counter)
    """Number of files with each other suffix, in lower case; "" is none."""
    hidden: int = 0
    """Number of hidden files and folders, and those of the operating system."""
    folders: dict[str, str] = field(default_factory=dict)
    """Reason by path of each folder that was not searched."""
    unlisted: list[str] = field(default_factory=list)
    """Those of them that cannot be listed: what is in them is missing."""

    def add(self, other: "PassedOver") -> None:
        """Add what another search passed over."""
        self.suffixes += other.suffixes
        self.hidden += other.hidden
        self.folders |= other.folders
        self.unlisted += other.unlisted

    def __str__(self) -> str:
        """Return it in words, such as "90 .heic files, 2 hidden"; empty where nothing was passed over."""
        found = [
            f"{count:,} {suffix or 'suffixless'} file{'s'[: count > 1]}"
            for suffix, count in sorted(self.suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
        if self.hidden:
            found.append(f"{self.hidden:,} hidden or of the system")
        found += [f"{path}/ ({reason})" for path, reason in list(self.folders.items())[:_NAMED]]
        if len(self.folders) > _NAMED:
            found.append(f"{len(self.folders) - _NAMED:,} more folders")
        return ", ".join(found)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or belongs to the operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image: by its suffix, unless it is hidden."""
    return not is_hidden(name) and _is_of_images(_suffix(name))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_of_images(suffix: str) -> bool:
    return suffix in SUFFIXES or suffix == arrays.SUFFIX


def find_images(folder: Path) -> tuple[list[ImageFile], PassedOver]:
    """Find the images at any depth below a folder, sorted by path.

    Hidden files and folders are passed over, and files whose suffix is no image format's. Links are followed, each
    folder that they lead to once. A folder that cannot be listed is passed over, whatever the reason.
    """
    images: list[ImageFile] = []
    passed = PassedOver()
    linked: set[str] = set()
    # Path of a folder, and the real paths of the links' folders on the way to it.
    waiting: list[tuple[str, tuple[str, ...]]] = [(os.fspath(folder), ())]
    while waiting:
        path, crossed = waiting.pop()
        try:
            with os.scandir(path) as listing:
                entries = list(listing)
        except OSError as error:
            passed.folders[path] = error.strerror or str(error)
            passed.unlisted.append(path)
            continue
        for entry in entries:
            if is_hidden(entry.name):
                passed.hidden += 1
            elif _is_folder(entry) and not entry.is_symlink():
                waiting.append((entry.path, crossed))
            elif _is_folder(entry):
                # Real paths are looked up for links alone: for each of many class folders they would take longest.
                target, behind = os.path.realpath(entry.path), (*crossed, os.path.realpath(path))
                if target in linked or any(_holds(target, folder) for folder in behind):
                    passed.folders[entry.path] = "a link to a folder that is searched already"
                else:
                    linked.add(target)
                    waiting.append((entry.path, behind))
            elif _is_of_images(suffix := _suffix(entry.name)):
                images.append(described(entry))
            else:
                passed.suffixes[suffix] += 1
    images.sort(key=lambda image: image.name)
    return images, passed


def _holds(folder: str, path: str) -> bool:
    """Return whether a path is the folder or below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def described(entry: os.DirEntry[str] | Path) -> ImageFile:
    """Return a file with its size and the times of its last change, all 0 where these cannot be found out."""
    try:
        status = entry.stat()
    except (OSError, ValueError):  # A broken link, say, or a name that no file can have: set aside when it is read.
        return ImageFile(os.fspath(entry), 0, 0)
    return ImageFile(os.fspath(entry), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Listing(NamedTuple):
    """What lies directly in a folder."""

    folders: list[str]
    """Names of the folders, sorted."""
    images: list[str]
    """Names of the image files, sorted."""
    passed: PassedOver
    """The other files, and what is hidden."""


def list_folder(folder: Path) -> Listing:
    """List the folders and the images that lie directly in a folder.

    Raises:
      OSError: the folder cannot be listed.
    """
    found = Listing([], [], PassedOver())
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                found.passed.hidden += 1
            elif _is_folder(entry):
                found.folders.append(entry.name)
            elif is_image(entry.name):
                found.images.append(entry.name)
            else:
                found.passed.suffixes[_suffix(entry.name)] += 1
    found.folders.sort()
    found.images.sort()
    return found


class UnusualFileError(OSError):
    """A file that is not read: a pipe, a device, or too large; the message is the reason."""


def read_regular(path: Path, most: int, head: int | None = None) -> bytes:
    """Read a regular file.

    Args:
      path: the file.
      most: bytes that it may have.
      head: bytes to read from its beginning; None: all.

    Raises:
      UnusualFileError: it is a pipe, a device, a folder or larger.
      OSError: it cannot be read.
    """
    _refuse_special(os.stat(path).st_mode)  # before it is opened, which devices may act upon
    descriptor = os.open(path, os.O_RDONLY | _NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _refuse_special(status.st_mode)
        content = b""
        if status.st_size <= most:
            # The size is named, as memory for all that is allowed would be fetched for each file.
            content = file.read(status.st_size + 1 if head is None else head)
            if head is None and len(content) > status.st_size:  # a file that grows, or whose size is not told
                content += file.read(most + 1 - len(content))
    size = max(status.st_size, len(content))
    if size > most:
        raise UnusualFileError(f"{size / 2**20:,.0f} MiB exceed the {most / 2**20:g} MiB of data.canvas.max_file_mib")
    return content


_KINDS: Mapping[int, str] = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def _refuse_special(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UnusualFileError(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
