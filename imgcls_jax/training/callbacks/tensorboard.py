"""Write a run's figures and pictures as TensorBoard's event files."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgcls_jax.record.documents import EpochRecord, Result
from imgcls_jax.training.callbacks.logger import AnyRecord, Logger, figures, final


class TensorBoard(Logger):
    """Event files: the figures of epochs over the epochs, all others over the steps."""

    name = "TensorBoard"

    def __init__(self, folder: Path):
        self._folder = folder
        self._epochs: Any = None
        self._steps: Any = None

    def go_back(self, epochs: list[EpochRecord], step: int) -> None:
        """Drop the events after these epochs and after this step."""
        self.close()
        self._epochs = _summary_writer(self._folder, purge_step=len(epochs))
        self._steps = None
        if (self._folder / "steps").exists():
            self._open_steps(step)

    def write(self, record: AnyRecord) -> None:
        if record["kind"] == "epoch":
            writer, place = self._epochs, record["epoch"]
        else:
            writer, place = self._steps or self._open_steps(record["step"] - 1), record["step"]
        _add(writer, figures(record), place)

    def finish(self, result: Result) -> None:
        # After the last epoch, so that a run of more epochs drops them.
        _add(self._epochs, final(result), result["epochs"])

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        self._epochs.add_image(name, np.asarray(image.convert("RGB")), epoch, dataformats="HWC")
        self._epochs.flush()

    def close(self) -> None:
        for writer in (self._epochs, self._steps):
            if writer is not None:
                writer.close()

    def _open_steps(self, step: int) -> Any:
        # In a folder of their own: a restart purges what comes after a number, which is an epoch there and a step here.
        self._steps = _summary_writer(self._folder / "steps", purge_step=step + 1)
        return self._steps


def _add(writer: Any, values: dict[str, float], place: int) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, place)
    writer.flush()


def _summary_writer(folder: Path, *, purge_step: int) -> Any:
    # tensorboardX imports torch where it is installed, for inputs that are never given here: seconds, and memory.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=purge_step)
