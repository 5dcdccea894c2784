"""Downloads to a cache: resumed where they broke off, verified, and under their name only when complete."""

import contextlib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

from imgcls_jax.errors import UserError

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes there and the number in all (None: the server does not say)."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30


def cache_folder(folder: str | Path | None = None) -> Path:
    """`folder`, or $IMGCLS_CACHE, or ~/.cache/imgcls_jax/weights."""
    return Path(folder or os.environ.get("IMGCLS_CACHE") or "~/.cache/imgcls_jax/weights").expanduser()


def fetch(url: str, sha256: str | None, folder: Path, progress: Progress | None = None) -> Path:
    """The file of that URL in the folder, downloaded unless it is there.

    A broken connection is taken up again as long as each attempt brings bytes; what has come stays in `NAME.part` for
    the next call. A file that someone else put there is verified too. Processes that want the same file wait for one
    another.

    Args:
      url: the file, whose name in the folder is the last part of the URL.
      sha256: first digits of its SHA-256; None: not verified.
      folder: made if missing.
      progress: called after every chunk.

    Raises:
      UserError: the server cannot be reached or refuses, or the file is not the expected one.
    """
    target = folder / url.rpartition("/")[2]
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with _lock(target.with_name(f"{target.name}.lock")):
            if not target.is_file():  # unless another process was first
                _download(url, part, target, progress)
                _verify(part, sha256, f"{url} was downloaded, but it")
                part.replace(target)
    _verify(target, sha256, str(target))
    return target


def _download(url: str, part: Path, target: Path, progress: Progress | None) -> None:
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(url, part, before, progress):
                return
            reason: object = "the connection broke off"
        except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
            reason = error
        if not part.exists() or part.stat().st_size <= before:
            raise UserError(
                f"{url} cannot be downloaded ({reason}): download it where there is a connection and put it at {target}"
            )


def _continue(url: str, part: Path, offset: int, progress: Progress | None) -> bool:
    """Append what the server still has to the partial file; whether it is complete now."""
    request = urllib.request.Request(url, headers={"User-Agent": "imgcls_jax"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and offset:  # nothing left: it was complete, or is of another file, as its hash will tell
            return True
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        done = offset if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    return total is None or done == total


def _verify(file: Path, sha256: str | None, subject: str) -> None:
    """Raise a `UserError` if the file is not the published one; remove it only if it was just downloaded."""
    if sha256 is None:
        return
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest.startswith(sha256):
        return
    advice = "delete it and try again"
    if file.suffix == ".part":
        file.unlink()
        advice = "it is removed, try again"
    raise UserError(
        f"{subject} is not the published file (its SHA-256 starts with {digest[: len(sha256)]}, not {sha256}): {advice}"
    )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process of this machine in at a time; no lock where the system has none of the kind (Windows)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
