"""torchvision, to compare with. Nothing that trains imports it."""

from types import ModuleType

_LIBRARIES: list[object] = []
"""torch forgets what a library declared when the library is collected."""


def import_torchvision() -> ModuleType:
    """The module, also where its compiled operators are missing, as beside a torch of another build.

    Raises:
      ImportError: torch or torchvision is not installed.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        # Its import fails only because these two are not declared; nothing here uses them.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision
    return torchvision
