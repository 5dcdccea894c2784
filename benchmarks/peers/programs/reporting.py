"""How a program tells the harness what it does; no user would write this.

A program is started with its settings as one JSON argument. It prints one line of JSON per event, after a mark that
tells it from what the library prints.
"""

import json
import os
import sys
from typing import Any

MARK = "@peers "
SETTINGS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) == 2 and sys.argv[1].startswith("{") else {}

_KEPT: list[object] = []


def tell(**event: Any) -> None:
    """Print an event: parameters=COUNT once, first_step=True when that is done, epoch=N with accuracy=SHARE."""
    # One write of a line of its own, whatever a progress bar has left on the last one.
    os.write(1, f"\n{MARK}{json.dumps(event)}\n".encode())


def make_torchvision_importable() -> None:
    """Declare two operators without which torchvision's import fails beside a CPU build of torch."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # torch forgets what a library declared when the library is collected
        import torchvision  # noqa: F401
