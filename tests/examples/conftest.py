"""The examples are scripts, not part of the package: load them by path."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from imgcls_jax.parallel import mesh

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of the examples."""
    return EXAMPLES


@pytest.fixture(scope="session")
def by_hand() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convolution_by_hand", EXAMPLES / "convolution_by_hand.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example runs on one device, as on the computer of a reader, not on the eight that the tests see."""
    arrange = mesh.arrange
    monkeypatch.setattr(mesh, "arrange", lambda devices, config: arrange(devices[:1], config))
