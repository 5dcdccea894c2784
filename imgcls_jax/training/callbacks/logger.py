"""What every logger does: the small protocol between a run and the places where its figures go."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from imgcls_jax.record.documents import EpochRecord, Result

AnyRecord = Mapping[str, Any]
"""A record of any kind: see `record.documents`."""


class Logger:
    """A place where the figures of a run go. Figures have the same names in each: see `figures` and `final`."""

    name = "the logger"
    """What it is called in sentences for the user."""
    is_service = False
    """Whether it belongs to someone else: should it fail during a run, the run goes on without it."""

    def go_back(self, epochs: list[EpochRecord], step: int) -> None:
        """Drop what was written after these epochs and this step, where that is possible.

        Called at the start, and when the run goes back to a checkpoint.
        """

    def write(self, record: AnyRecord) -> None:
        """Write the figures of a record."""

    def finish(self, result: Result) -> None:
        """Write what the run came to (`final`); not called for a run that is interrupted."""

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        """Show a picture.

        Args:
          name: such as "mistakes"; each is given once.
          image: RGB.
          epoch, step: how many of each were trained before.
        """

    def close(self) -> None:
        """Write what is left, however the run ends."""


class ServiceRun(Logger):
    """A run of a service that has the interface of Weights & Biases. Figures are over the steps."""

    is_service = True

    def __init__(self, run: Any, picture_of: Callable[[Image.Image], Any]):
        """
        Args:
          run: has the methods `log` and `finish`.
          picture_of: makes of an image what `log` takes.
        """
        self._run, self._picture_of = run, picture_of

    def write(self, record: AnyRecord) -> None:
        self._run.log(figures(record), step=record["step"])

    def finish(self, result: Result) -> None:
        self._run.log(final(result), step=result["history"][-1]["step"])

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        self._run.log({name: self._picture_of(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


def figures(record: AnyRecord) -> dict[str, float]:
    """Return a record's finite numbers by name, such as "validation/top1".

    Those of steps and of evaluations inside an epoch are below "steps/".
    """
    return _flat(record, "" if record["kind"] == "epoch" else "steps/")


def final(result: Result) -> dict[str, float]:
    """Return the finite figures of a run's best epoch by name, such as "best/test/top1"."""
    names = ("validation", "test", "evaluators")
    return _flat({name: result[name] or {} for name in names} | {"epoch": result["best_epoch"]}, "best/")  # type: ignore[literal-required]


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and math.isfinite(value) and key != "schema":
            flat[prefix + key] = value
    return flat
