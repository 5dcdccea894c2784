"""What timm's repositories of weights hold: which network, its preprocessing, and its tensors' names."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imgcls_jax.errors import UserError, short
from imgcls_jax.weights.catalog import Preprocessing

State = Mapping[str, np.ndarray]
# Arguments of timm's networks that change nothing of what an evaluated network computes but its shapes; and the
# pooling, which is compared.
_HARMLESS = {"num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "global_pool"}
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
_FITS: dict[str, Literal["crop", "stretch"]] = {"center": "crop", "squash": "stretch"}
_USUAL_CROP = 0.875


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """timm's network that computes what one of ours does."""

    architecture: str
    """timm's name."""
    pooling: str = "avg"
    """What timm calls the step from the last feature map to the features."""
    rename: Callable[[State], State] = dict
    """Gives timm's tensors the names, and where need be the shapes, of the network's `torch_rules`."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The config.json of a repository of timm's."""

    architecture: str
    """timm's name of the network."""
    pooling: str | None
    """From the last feature map to the features; None: the file does not say."""
    num_classes: int
    """Outputs; 0: there is no output layer."""
    class_names: tuple[str, ...] | None
    """By label; None: the file has none."""
    tag: str
    """What the weights were trained on and how, as timm calls it; empty: the file does not say."""
    sizes: tuple[Preprocessing, ...]
    """For the size of training and, where the file has another one, for that of the test."""
    fit: Literal["crop", "stretch"]
    """How an image gets the resized one's shape, as `Canvas.fit`."""

    def closest(self, image_size: tuple[int, int]) -> Preprocessing:
        """Return the preprocessing for images of that size, else that of training."""
        return next((one for one in self.sizes if (one.crop, one.crop) == image_size), self.sizes[0])


def is_card(document: Any) -> bool:
    """Tell whether a config.json is timm's."""
    return isinstance(document, dict) and isinstance(document.get("architecture"), str)


def read_json(path: Path, where: str) -> Any:
    """Read a JSON file of a repository that is called `where` in the error.

    Raises:
      UserError: it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} of {where} is not JSON: {error}") from None


def read_card(document: Mapping[str, Any], where: str) -> Card:
    """Read timm's config.json.

    Args:
      document: as JSON has it; see `is_card`.
      where: what the repository is called.

    Raises:
      UserError: it says something that cannot be, or asks for a variant of the network.
    """
    # Older files have all in one dict.
    cfg = document.get("pretrained_cfg", document)
    arguments = document.get("model_args") or {}
    try:
        if strange := sorted(set(arguments) - _HARMLESS):
            raise UserError(
                f"{where} is a variant of timm's {document['architecture']}, with {', '.join(strange)} set in its "
                "config.json: only timm's own networks are read"
            )
        num_classes = int(document.get("num_classes", cfg.get("num_classes", 1000)))
        names = document.get("label_names") or cfg.get("label_names")
        usual = _size(cfg, cfg["input_size"], cfg.get("crop_pct"))
        test = cfg.get("test_input_size") or cfg["input_size"]
        tested = _size(cfg, test, cfg.get("test_crop_pct") or cfg.get("crop_pct"))
        return Card(
            architecture=document["architecture"],
            pooling=arguments.get("global_pool") or document.get("global_pool"),
            num_classes=num_classes,
            class_names=tuple(map(str, names)) if isinstance(names, list) and len(names) == num_classes else None,
            tag=str(cfg.get("tag") or ""),
            sizes=tuple(dict.fromkeys((usual, tested))),
            fit=_FITS[cfg.get("crop_mode", "center")],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"config.json of {where} does not say, in timm's way, what images its weights are for: "
            f"{type(error).__name__}: {short(str(error))}"
        ) from None


def _size(cfg: Mapping[str, Any], size: Any, share: float | None) -> Preprocessing:
    """The preprocessing for images of that size, of which the crop keeps this share of the side."""
    _, height, width = map(int, size)
    interpolation, mean, std = cfg["interpolation"], (*map(float, cfg["mean"]),), (*map(float, cfg["std"]),)
    if height != width or height < 1 or interpolation not in _INTERPOLATIONS or not all(x > 0 for x in std):
        raise ValueError(f"input_size {size}, interpolation {interpolation}, std {std}")
    return Preprocessing(math.floor(height / (share or _USUAL_CROP)), height, interpolation, mean, std)
