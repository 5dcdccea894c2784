"""Count the CPU cores that work can be shared between."""

import os


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use.

    On Linux these can be fewer than the machine has, by `taskset`, a batch system or a container; where the system has
    no such limits (Windows, macOS), all of them.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
