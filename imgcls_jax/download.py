"""Download files: resumed where they broke off, verified, and under their name only when complete.

Weights and data sets come through here. The environment variables of proxies and certificates are those of `requests`
(HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE …).
"""

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 16  # What has come of a chunk is lost when the connection breaks off.
_ATTEMPTS = 4  # of one address, when the connection breaks off
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[str, int, int | None], None]


class _Failed(Exception):
    """One address could not deliver the file; the message says why."""


class _BrokeOff(_Failed):
    """The connection ended too early, so that another attempt may go on from there."""


def cache_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of downloaded weights: `folder`, or `weights` in the folder of all caches."""
    return Path(folder).expanduser() if folder else cache_dir() / "weights"


def is_offline() -> bool:
    """Return whether $IMGCLS_OFFLINE forbids downloads: any value but an empty one and "0"."""
    return os.environ.get("IMGCLS_OFFLINE", "") not in ("", "0")


def fetch(
    url: str,
    sha256: str | None,
    folder: Path,
    *,
    name: str | None = None,
    mirrors: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> Path:
    """Return the file of a URL in a folder, downloaded unless it is there.

    A download that breaks off, or whose process is killed, goes on where it was. Without `on_progress`, one of more
    than two seconds shows how far it is. A file that someone else put there is verified too. Processes that want the
    same file wait for one another.

    Args:
      url: the file.
      sha256: first digits of its SHA-256; None: not verified, and not resumed.
      folder: made if missing.
      name: of the file in the folder; None: the last part of the URL.
      mirrors: other URLs of the same file, tried in order where the first fails.
      on_progress: called with a label, the MiB that are there, and those in all (None: unknown).

    Raises:
      UserError: downloads are forbidden, the servers cannot be reached or refuse, the disk is full, or the file is not
        the expected one.
    """
    target = folder / (name or url.rpartition("/")[2])
    if target.is_file():
        if wrong := mismatch(target, sha256):
            raise UserError(f"{target} {wrong}: delete it and try again")
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_file():  # unless another process was first
                _fetch_first((url, *mirrors), sha256, target, on_progress)
    except OSError as error:
        full = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise UserError(
            f"{target} cannot be written ({full}): make room or name another folder, and the same command goes on "
            "where it was"
        ) from error
    return target


def mismatch(file: Path, sha256: str | None) -> str | None:
    """Return what is wrong with a file whose SHA-256 should start with these digits; None: nothing."""
    if sha256 is None:
        return None
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest.startswith(sha256):
        return None
    shown = sha256[:8]
    return f"is not the published file (its SHA-256 starts with {digest[: len(shown)]}, not {shown})"


def _fetch_first(urls: Sequence[str], sha256: str | None, target: Path, on_progress: Progress | None) -> None:
    """Get the file from the first address that delivers it."""
    if is_offline():
        raise UserError(
            f"{urls[0]} is needed, and $IMGCLS_OFFLINE forbids downloads: unset it, or put the file at {target}"
        )
    failures = []
    for url in urls:
        try:
            if on_progress:
                _fetch_one(url, sha256, target, on_progress)
            else:
                with Console().wait(f"downloading {target.name}") as wait:
                    _fetch_one(url, sha256, target, wait.on_progress)
            return
        except _Failed as failure:
            failures.append(f"{url} {failure}")
    raise UserError(
        f"{'; '.join(failures)}: try again (a download that broke off goes on where it was), or download the file "
        f"where there is a connection and put it at {target}"
    )


def _fetch_one(url: str, sha256: str | None, target: Path, on_progress: Progress) -> None:
    """Get the file from one address, in as many attempts as bring it on."""
    part = target.with_name(f"{target.name}.part")
    if sha256 is None:
        part.unlink(missing_ok=True)  # nothing would show that its two halves are of two files
    resumed = part.exists()
    for attempt in range(_ATTEMPTS):
        try:
            _download(url, part, f"downloading {target.name}, MiB", on_progress)
            break
        except _BrokeOff:
            if attempt == _ATTEMPTS - 1 or sha256 is None:
                raise
            resumed = True
    if wrong := mismatch(part, sha256):
        part.unlink()
        if resumed:  # What was there before may have been another file's.
            return _fetch_one(url, sha256, target, on_progress)
        raise _Failed(f"was downloaded, but it {wrong} and is removed")
    part.replace(target)


def _download(url: str, part: Path, label: str, on_progress: Progress) -> None:
    """Write what is missing of a file to `part`."""
    import requests  # imported late: most runs download nothing

    done = part.stat().st_size if part.exists() else 0
    # Compression on the way would make the bytes, and so the range, another file's.
    headers = {"User-Agent": "imgcls_jax", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # All of it is there; its hash says whether that is true.
            response.raise_for_status()
            if done and response.status_code != requests.codes.partial_content:
                done = 0  # The server sends the whole file.
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            with part.open("ab" if done else "wb") as file:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    on_progress(label, done >> 20, (total >> 20) or None if total else None)
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        raise _BrokeOff("cannot be downloaded (the connection broke off)") from None
    except requests.RequestException as error:
        kind = _BrokeOff if part.exists() and part.stat().st_size and error.response is None else _Failed
        raise kind(f"cannot be downloaded ({_reason(error)})") from None
    if total is not None and done < total:
        raise _BrokeOff("cannot be downloaded (the connection broke off)")


def _reason(error: BaseException) -> str:
    """Why a request failed, without the layers of libraries around it."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer in {_TIMEOUT_S} s"
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error)
