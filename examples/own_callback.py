"""Callbacks of your own: one stops a run, one logs norms of gradients, one ends the hopeless runs of a search.

A callback overrides the methods of `ic.Callback` that it needs. It is given to `ic.train`; one that is to be part of a
config has a class of settings that builds it, as `StopAt` has here.

    python examples/own_callback.py

trains on handwritten digits. This file is a config file too:

    imgcls train --config examples/own_callback.py --config.callbacks[0].accuracy=0.95
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

import imgcls_jax as ic
from imgcls_jax import config as c

DIGITS = Path(__file__).parents[1] / "configs" / "digits_cnn.py"


class _Stopper(ic.Callback):
    def __init__(self, accuracy: float):
        self.accuracy = accuracy

    def on_epoch(self, run, record):
        if record["validation"]["top1"] >= self.accuracy:
            run.stop(f"the validation accuracy has reached {self.accuracy:.0%}")


class StopAt(c.Callback):
    """Stop as soon as the validation accuracy is high enough."""

    accuracy: Annotated[float, Field(gt=0, lt=1)]
    """Top-1 accuracy on the validation images, 0 to 1."""

    def build(self):
        return _Stopper(self.accuracy)


class GradientNorms(ic.Callback):
    """Adds the largest norm of an epoch's gradients to the epoch's record, and so to every logger.

    The norms are there because `log_every_steps` is set. They are read when they have reached the host, so that the
    device never waits. `state_dict` makes a run that is resumed inside an epoch record the same.
    """

    def __init__(self):
        self.largest = 0.0

    def on_metrics(self, run, metrics):
        if metrics.diagnostics is not None:
            self.largest = max(self.largest, float(metrics.diagnostics.gradient_norm))

    def on_epoch(self, run, record):
        run.log(largest_gradient_norm=self.largest)
        self.largest = 0.0

    def state_dict(self):
        return {"largest": self.largest}

    def load_state_dict(self, state):
        self.largest = state["largest"]


class MedianPruner(ic.Callback):
    """Stops a run of a search that is worse than the median of the earlier runs at the same epoch."""

    def __init__(self, earlier: list[list[float]]):
        self.earlier = earlier

    def on_epoch(self, run, record):
        epoch, loss = record["epoch"], record["validation"]["loss"]
        losses = [history[epoch] for history in self.earlier if len(history) > epoch]
        if losses and loss > statistics.median(losses):
            run.stop(f"pruned: the loss {loss:.3f} is above the median of the earlier runs")


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    digits = ic.load_config(DIGITS, epochs=6, log_every_steps=1)
    return dataclasses.replace(digits, name="own_callback", callbacks=(StopAt(accuracy=0.9),))


def main(folder: Path) -> tuple[dict, dict[float, dict]]:
    """Train, then search three learning rates; return the result of the training and those of the search by rate."""
    # Loaded as the command does it, so that the run remembers in which file StopAt is defined.
    result = ic.train(ic.load_config(__file__), folder / "run", callbacks=[GradientNorms()])
    search, earlier = {}, []
    for rate in (3e-3, 1e-3, 1e-5):
        config = ic.load_config(DIGITS, epochs=2, **{"optim.schedule.peak": rate})
        search[rate] = ic.train(config, folder / f"rate_{rate:g}", callbacks=[MedianPruner(earlier)])
        earlier.append([record["validation"]["loss"] for record in search[rate]["history"]])
    return result, search


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
