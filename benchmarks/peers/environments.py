"""An environment of its own for each peer, with pinned versions, made at its first use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.process import CannotRun

_TORCH = ("torch==2.13.0", "torchvision==0.28.0")
PACKAGES = {
    "keras_jax": ("keras==3.15.1", "jax==0.10.2", "grain==0.2.18", "pillow==13.0.0"),
    "keras_torch": ("keras==3.15.1", "grain==0.2.18", "pillow==13.0.0", *_TORCH),
    "lightning": ("lightning==2.6.6", *_TORCH),
    "fastai": ("fastai==2.8.12", *_TORCH),
    "timm": ("timm==1.0.31", *_TORCH),
    "torchvision": _TORCH,
    "flax": (
        "flax==0.12.8",
        "jax==0.10.2",
        "clu==0.0.12",
        "ml_collections==1.1.0",
        "tensorflow-cpu==2.21.0",
        "tensorflow-datasets==4.9.10",
        "tensorboard==2.21.0",
        "importlib_resources==6.5.2",  # tensorflow-datasets needs it and does not say so
    ),
}


def python(peer: str, cache: Path) -> str:
    """Return the interpreter of a peer's environment, which is made by uv where that is installed, else by pip.

    Raises:
      CannotRun: the packages cannot be installed.
    """
    home = cache / "environments" / peer
    interpreter, pinned = home / "bin" / "python", "\n".join(PACKAGES[peer])
    marker = home / "pinned.txt"
    if marker.exists() and marker.read_text() == pinned:
        return str(interpreter)
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv", path=os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent))))
    # pip's folder of wheels, where torch's build for CPUs may lie: uv does not read pip's variables.
    links = [word for folder in os.environ.get("PIP_FIND_LINKS", "").split() for word in ("--find-links", folder)]
    if uv:
        make = [uv, "venv", "-q", "--python", sys.executable, str(home)]
        install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(interpreter), *links]
    else:
        make = [sys.executable, "-m", "venv", str(home)]
        install = [str(interpreter), "-m", "pip", "install", "-q"]
    for command in (make, [*install, *PACKAGES[peer]]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CannotRun(f"its environment {home} cannot be made: {last}")
    marker.write_text(pinned)
    return str(interpreter)
