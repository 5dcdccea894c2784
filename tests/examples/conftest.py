"""The examples are scripts, not part of the package: load them by path."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

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
