"""A metric of your own, which decides the best checkpoint and early stopping.

A metric sums over the examples of a batch what it needs, and computes its value from the sums over all of them, so that
it is exact for any batch size and number of devices. It stands beside loss and accuracy in every evaluation, in the
logs and in result.json.

    python examples/own_metric.py

trains on handwritten digits for four epochs. This file is a config file too:

    imgcls train --config examples/own_metric.py --config.epochs=20
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class CalibrationError(c.Metric):
    """Expected calibration error (Guo et al. 2017): how far the probability of the prediction is from the share of
    right ones, on average over bins of equal width."""

    name: ClassVar[str] = "calibration_error"
    higher_is_better: ClassVar[bool] = False

    bins: int = 15
    """Number of bins of the probability."""

    def sums(self, logits, labels, mask):
        p = jax.nn.softmax(logits)
        bin_of = jnp.minimum((p.max(-1) * self.bins).astype(jnp.int32), self.bins - 1)
        in_bin = (bin_of[:, None] == jnp.arange(self.bins)) & mask[:, None]  # padding is in no bin
        right = p.argmax(-1) == labels
        return {
            "count": in_bin.sum(0),
            "right": (in_bin & right[:, None]).sum(0),
            "confidence": jnp.where(in_bin, p.max(-1)[:, None], 0).sum(0),
        }

    def result(self, sums):
        return np.abs(sums["right"] - sums["confidence"]).sum() / sums["count"].sum()


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return dataclasses.replace(
        ic.load_config(DIGITS),
        name="own_metric",
        metrics=(CalibrationError(), c.MacroF1()),
        best=c.Best("calibration_error"),
        early_stopping=c.EarlyStopping(patience=5),
        epochs=4,
    )


def main(folder: Path) -> dict:
    """Train in `folder`; return the result."""
    # Loaded as the command does it, so that the run remembers in which file CalibrationError is defined.
    return ic.train(ic.load_config(__file__), folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
