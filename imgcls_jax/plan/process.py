"""The memory of this process; nothing heavy is imported to ask for it."""

import sys
from pathlib import Path


def peak_memory() -> int:
    """Bytes of the largest resident memory that this process has had so far, children not counted; 0 on Windows."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage's maximum, it does not begin with the parent's
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
