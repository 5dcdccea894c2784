"""How a program tells the harness what it does; no user would write this.

A program is started with its settings as one JSON argument. It prints one line of JSON per event, after a mark that
tells it from what the library prints.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

MARK = "@peers "
SETTINGS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) == 2 and sys.argv[1].startswith("{") else {}

_TORCH_PEER = Path(__file__).parents[3] / "imgcls_jax" / "doctor" / "torch_peer.py"
_KEPT: list[object] = []


def tell(**event: Any) -> None:
    """Print an event: parameters=COUNT once, first_step=True when that is done, epoch=N with accuracy=SHARE."""
    # One write of a line of its own, whatever a progress bar has left on the last one.
    os.write(1, f"\n{MARK}{json.dumps(event)}\n".encode())


def make_torchvision_importable() -> None:
    """Import it beside a CPU build of torch: by a file of imgcls_jax, which is not installed in this environment."""
    names = runpy.run_path(str(_TORCH_PEER))
    names["import_torchvision"]()
    _KEPT.append(names)  # torch forgets what a library declared when the library is collected
