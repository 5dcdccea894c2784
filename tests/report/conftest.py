"""torchvision's own picture grid."""

import importlib.util

import pytest

_LIBRARY = None
"""torch forgets what a library defined when the library is collected."""


@pytest.fixture(scope="session")
def torchvision_make_grid():
    """(torch, torchvision.utils.make_grid); skips where either is missing."""
    global _LIBRARY
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision needed")
    try:
        torch.ops.torchvision.nms  # noqa: B018
    except (AttributeError, RuntimeError):
        # A torchvision without its compiled operators lacks these two, and cannot be imported without them.
        _LIBRARY = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.utils import make_grid

    return torch, make_grid
