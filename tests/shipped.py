"""The shipped configs, for the tests."""

from pathlib import Path

from imgcls_jax.config import io as files
from imgcls_jax.errors import UnknownVariant

SPECS = []
"""Every config in every variant, "PATH.py" or "PATH.py:VARIANT"."""
for path in sorted((Path(__file__).parents[1] / "configs").glob("*.py")):
    try:
        files.load(f"{path}:no such variant")
    except UnknownVariant as error:
        SPECS += [str(path), *(f"{path}:{known}" for known in error.known)]

CLASSES = {
    **dict.fromkeys(("digits_cnn", "imagenette_cnn", "imagenette_r18", "imagenette_squeezenet"), 10),
    **dict.fromkeys(("cifar10_cnn", "cifar10_lenet", "cifar10_r18", "cifar10_r50", "cifar10_resnet"), 10),
    **dict.fromkeys(("cifar10_squeezenet", "cifar10_speedrun"), 10),
    **dict.fromkeys(("cifar100_cnn", "cifar100_r18", "cifar100_r50", "cifar100_wrn"), 100),
    **dict.fromkeys(("sketch_cnn", "sketch_dinov2", "sketch_r50"), 500),
    "cats_dogs_cnn": 2,
    "stanford_dogs_cnn": 120,
}
"""Number of classes of each config's data."""
