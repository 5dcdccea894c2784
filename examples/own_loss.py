"""A loss of your own: a value for each example, as a class of settings with a method `build`.

`build` returns a function of the logits and the labels of a batch. Labels are distributions over the classes, so that
mixup and CutMix work. A loss that gives each logit a sigmoid of its own says so by `sigmoid: ClassVar[bool] = True`.

    python examples/own_loss.py

trains on handwritten digits for three epochs. This file is a config file too:

    imgcls train --config examples/own_loss.py --config.loss.epsilon=2.0
"""

import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class Poly1(c.Loss):
    """Poly-1 cross-entropy (Leng et al. 2022): cross-entropy plus ε times the probability that the label misses."""

    epsilon: float = 1.0
    """Weight of the term beside cross-entropy; 0: cross-entropy."""

    def build(self, *, num_classes, class_counts=None):
        def loss(logits, labels):  # [b, num_classes] each → [b]
            log_p = jax.nn.log_softmax(logits)
            cross_entropy = -jnp.sum(labels * log_p, axis=-1)
            return cross_entropy + self.epsilon * (1 - jnp.sum(labels * jnp.exp(log_p), axis=-1))

        return loss


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return dataclasses.replace(ic.load_config(DIGITS), name="own_loss", loss=Poly1(), epochs=3)


def main(folder: Path) -> dict:
    """Train in `folder`; return the result."""
    # Loaded as the command does it, so that the run remembers in which file Poly1 is defined.
    return ic.train(ic.load_config(__file__), folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
