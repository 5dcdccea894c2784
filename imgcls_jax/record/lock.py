"""Lock a work directory, so that two processes never write into one run."""

import contextlib
import datetime
import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from imgcls_jax.errors import UserError
from imgcls_jax.record.json_files import read_json, write_json

# File systems without locks, such as some of networks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the lock of a work directory, which exists; the death of the process releases it, whatever it dies of.

    The operating system's lock is on WORKDIR/.lock; WORKDIR/.lock.json says who holds it.

    Raises:
      UserError: another process holds it; nothing is changed.
    """
    lock, owner = FileLock(workdir / ".lock", timeout=0), workdir / ".lock.json"
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{workdir} is in use by {_holder(owner)}: wait for it, or choose another --workdir") from None
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", None)
        if number is not None and number not in _NO_LOCKS:
            raise UserError(f"{workdir} cannot be locked: {os.strerror(number)}") from error
        warnings.warn(f"the file system of {workdir} has no locks: start no second process there", stacklevel=2)
        yield
        return
    try:
        started = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        write_json(owner, {"host": socket.gethostname(), "process": os.getpid(), "started": started})
        yield
    finally:
        with contextlib.suppress(OSError):  # moved away, or read-only by now
            owner.unlink()
        lock.release()


def _holder(owner: Path) -> str:
    """Say which process holds a lock."""
    try:
        found = read_json(owner)
        return f"process {found['process']} on {found['host']}, which started at {found['started']}"
    except (UserError, KeyError, TypeError, json.JSONDecodeError):  # it is just starting
        return "another process, which has just started"
