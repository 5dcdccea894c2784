"""Small image folders and the settings that read them."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_reference import import_torchvision
from PIL import Image

from imgcls_jax.config.data import Canvas, Data


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Data]:
    """Builds `Data` around a source, with a cache of the test's own."""

    def build(source, **changes) -> Data:
        values = {
            "canvas": Canvas(8, 8),
            "image_size": (8, 8),
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "cache_dir": str(tmp_path / "cache"),
            "workers": 2,
        }
        return Data(source, **(values | changes))

    return build


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Writes an image of random pixels; the suffix decides the format."""
    rng = np.random.default_rng(0)

    def write(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = len(Image.new(mode, (1, 1)).getbands())
        shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
        Image.frombytes(mode, size, rng.integers(0, 256, shape, np.uint8).tobytes()).save(path)
        return path

    return write


@pytest.fixture
def pets(tmp_path: Path, picture) -> Path:
    """PETS/train/{cat,dog}/*.png, 6 and 4 images, and PETS/val/{cat,dog}/*.png, 2 and 1."""
    root = tmp_path / "pets"
    for split, counts in {"train": {"cat": 6, "dog": 4}, "val": {"cat": 2, "dog": 1}}.items():
        for name, count in counts.items():
            for i in range(count):
                picture(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tfds folder in which `imgcls_digits` is prepared."""
    from imgcls_jax.data import digits

    folder = tmp_path_factory.mktemp("tfds")
    digits.prepare(folder)
    return folder


@pytest.fixture(scope="session")
def real_folders(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the real `imagenette/` and `cats_dogs/`."""
    root = tmp_path_factory.mktemp("real")
    for archive in ("imagenette_1500.tar", "cats_dogs_1000.tar"):
        with tarfile.open(real_data / "data" / archive) as tar:
            tar.extractall(root, filter="data")
    return root


@pytest.fixture(scope="session")
def torchvision_transforms():
    """torchvision.transforms."""
    return import_torchvision().transforms
