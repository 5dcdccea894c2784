"""A schedule of your own: the learning rate after the warm-up, as a class of settings with a method `rates`.

The rates of the whole training are computed once, on the host. A method `adapt` may change them as training goes on: it
gives a factor on the next epoch's rates from the record of the epochs so far, and so a resumed run continues exactly.

    python examples/own_schedule.py

trains on handwritten digits for three epochs. This file is a config file too:

    imgcls train --config examples/own_schedule.py --config.optim.schedule.shape.timescale=2
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class InverseSquareRoot(c.Shape):
    """Falls with the square root of time, as in "Attention is all you need"; halved where the training loss rises."""

    timescale: float = 1.0
    """Epochs after which the rate starts to fall noticeably."""

    def rates(self, peak, *, entries, unit):
        epochs = np.arange(entries) / unit
        return peak / np.sqrt(1 + epochs / self.timescale)

    def adapt(self, history, *, schedule, higher_is_better):
        losses = [record["train"]["loss"] for record in history]
        return 0.5 ** sum(later > earlier for earlier, later in zip(losses, losses[1:], strict=False))


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    digits = ic.load_config(DIGITS)
    schedule = c.Schedule(peak=3e-3, warmup_epochs=1, shape=InverseSquareRoot(timescale=0.5))
    return dataclasses.replace(
        digits, name="own_schedule", optim=dataclasses.replace(digits.optim, schedule=schedule), epochs=3
    )


def main(folder: Path) -> dict:
    """Train in `folder`; return the result."""
    # Loaded as the command does it, so that the run remembers in which file InverseSquareRoot is defined.
    return ic.train(ic.load_config(__file__), folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
