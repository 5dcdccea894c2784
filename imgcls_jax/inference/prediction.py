"""What a classifier says about an image."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Choice:
    """One class for an image."""

    label: int
    """Number of the class."""
    class_name: str
    probability: float
    """The model's probability of it, in [0, 1]."""


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image."""

    label: int
    """Number of the most probable class."""
    class_name: str
    """Its name."""
    probability: float
    """The model's probability of it, in [0, 1]."""
    top: tuple[Choice, ...]
    """The most probable classes, as many as `top_k`, in order of probability; the first is the one above."""
    path: Path | None
    """The image's file; None where it was not given as one."""
    probabilities: Float[np.ndarray, " classes"] | None = field(default=None, compare=False, repr=False)
    """The probability of every class, by label, where `all_probabilities` was asked for."""
    energy: float | None = field(default=None, compare=False, repr=False)
    """log of the sum of exp of the logits: low for images unlike those of the training. None for a sigmoid head."""
    labels: tuple[Choice, ...] | None = None
    """Of a model of several labels per image: those whose probability reaches their threshold, the most probable first,
    perhaps none; the label above is only the most probable one. None of a model of classes."""


@dataclass(frozen=True)
class Estimate:
    """The numbers that the model predicts of one image."""

    values: dict[str, float]
    """By name."""
    path: Path | None
    """The image's file; None where it was not given as one."""


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read."""

    image: str
    """Its path, or its place among the images that were given."""
    reason: str
    path: Path | None
    """Its file; None where it was not given as one."""
