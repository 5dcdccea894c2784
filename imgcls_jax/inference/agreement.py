"""How much a model of another precision agrees with the one that it was made from."""

from dataclasses import dataclass

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.data.dataset import Split
from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.inference.images import Image

CALIBRATION_IMAGES, _MEASURED_IMAGES = 256, 1000


@dataclass(frozen=True)
class Agreement:
    """What two models say about the same images."""

    images: int
    split: str
    """"validation", "test", or "train" where there is neither."""
    same: float
    """Share of the images, or of several labels per image those, of which both say the same."""
    difference: float
    """Greatest difference of a probability."""
    right: tuple[float, float] | None
    """Accuracy of both; None of several labels per image."""

    def text(self, precision: str) -> str:
        """Say it in one line."""
        right = ""
        if self.right:
            right = f"; accuracy {100 * self.right[1]:.1f} %, before {100 * self.right[0]:.1f} %"
        return (
            f"{precision} decides as the run for {100 * self.same:.1f} % of {self.images:,} {self.split} images, "
            f"probabilities differ by at most {self.difference:.2g}{right}"
        )


def training_images(data: c.Data) -> list[Image]:
    """Give training images on which activations are measured, evenly over the set, as the source holds them.

    Raises:
      UserError: the data are not there.
    """
    return list(_spread(load_data(data).train, CALIBRATION_IMAGES)[1])


def measure(before: Classifier, after: Classifier) -> Agreement:
    """Compare two models on images that neither was fitted to, evenly over the validation or test split.

    Raises:
      UserError: the data are not there.
    """
    dataset = load_data(before.config.data)
    split = dataset.validation or dataset.test or dataset.train
    chosen, images = _spread(split, _MEASURED_IMAGES)
    first, second = (model.probabilities(images) for model in (before, after))
    same = before.labels(images) == after.labels(images)
    right = None
    if same.ndim == 1:
        truth = split.labels[chosen]
        right = float((first.argmax(-1) == truth).mean()), float((second.argmax(-1) == truth).mean())
    return Agreement(len(images), split.name, float(same.mean()), float(np.abs(first - second).max()), right)


def _spread(split: Split, most: int) -> tuple[np.ndarray, list[Image]]:
    chosen = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(int))
    return chosen, list(split.read_original(chosen))
