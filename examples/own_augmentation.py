"""An augmentation of your own: salt-and-pepper noise, drawn anew for each image of each step on the device.

`apply` changes one image by its own random key; it is vectorized over the batch and runs inside the compiled step. The
key depends on the run's seed, the step and the image's place in the batch only, so that a resumed run draws the same.

    python examples/own_augmentation.py

trains on handwritten digits for two epochs, with noise from the second one on. This file is a config file too:

    imgcls train --config examples/own_augmentation.py --config.augment[1].share=0.1
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class SaltAndPepper(c.Augmentation):
    """Turn a share of the pixels black or white, each with equal probability."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Expected share of the pixels that change."""

    def apply(self, key, image, batch):
        height, width, _ = image.shape
        drawn = jax.random.uniform(key, (height, width, 1))
        white, black = drawn < self.share / 2, drawn > 1 - self.share / 2
        return jnp.where(white, 1.0, jnp.where(black, 0.0, image))


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    digits = ic.load_config(DIGITS, epochs=2)
    augment = (*digits.augment, SaltAndPepper(share=0.05, from_epoch=1))
    return dataclasses.replace(digits, name="own_augmentation", augment=augment)


def main(folder: Path) -> dict:
    """Train in `folder`; return the result."""
    # Loaded as the command does it, so that the run remembers in which file SaltAndPepper is defined.
    return ic.train(ic.load_config(__file__), folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
