"""An optimizer of your own: any optax optimizer, as a class of settings with a method `build`.

The learning rate that `build` receives is the schedule's at the step. Everything around the optimizer works as with the
built-in ones: schedules, clipping, accumulation, averages, lookahead. The learning rates of groups and layers multiply
the steps of their parameters, and a field named `weight_decay` is decoupled weight decay that leaves out norms and
biases; see the docstring of `c.Optimizer`.

    python examples/own_optimizer.py

trains on handwritten digits for three epochs. This file is a config file too:

    imgcls train --config examples/own_optimizer.py --config.optim.optimizer.b1=0.95
"""

import dataclasses
import tempfile
from pathlib import Path

import optax

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class AdaBelief(c.Optimizer):
    """AdaBelief (Zhuang et al. 2020) with decoupled weight decay."""

    b1: float = 0.9
    """Decay of the gradient's average."""
    b2: float = 0.999
    """Decay of the average of the gradient's squared deviation."""
    weight_decay: float = 0.0

    def build(self, learning_rate):
        return optax.adabelief(learning_rate, b1=self.b1, b2=self.b2)


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    digits = ic.load_config(DIGITS)
    return dataclasses.replace(
        digits,
        name="own_optimizer",
        optim=dataclasses.replace(digits.optim, optimizer=AdaBelief(weight_decay=0.05)),
        transfer=c.Transfer(groups=(c.Group("head.*", learning_rate_scale=0.5),)),
        epochs=3,
    )


def main(folder: Path) -> dict:
    """Train in `folder`; return the result."""
    # Loaded as the command does it, so that the run remembers in which file AdaBelief is defined.
    return ic.train(ic.load_config(__file__), folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
