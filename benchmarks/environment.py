"""What a figure depends on besides the code."""

import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("imgcls_jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "torch", "torchvision")


def describe() -> dict[str, Any]:
    """Date, machine, versions, flags and the machine's load at this moment, as plain values."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "cpu": cpu(),
        "cores": cores(),
        "gpu": gpu(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "flags": {name: os.environ.get(name) for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "JAX_PLATFORMS")},
    }


def cpu() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str | None:
    """The first NVIDIA GPU's name; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
    return names[0].strip() or None


def version(package: str) -> str | None:
    """Of an installed distribution; None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
