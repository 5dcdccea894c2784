"""The augmentation policy: operations in the order they run, each with the epochs in which it runs.

Every operation runs on the device, on a batch, from one key an image; validation and test images see none of them.
Epochs count from 0: `from_epoch=30` first runs in the 31st epoch; `until_epoch` is the first epoch without it.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from imgcls_jax.config.base import settings

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Epoch = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]
Interpolation = Literal["nearest", "bilinear"]


@settings
class _Phase:
    """The epochs in which an operation runs."""

    from_epoch: Epoch = field(default=0, kw_only=True)
    """First epoch (counted from 0) in which it runs."""
    until_epoch: Epoch | None = field(default=None, kw_only=True)
    """First epoch in which it no longer runs; None: to the end."""


@settings
class HorizontalFlip(_Phase):
    p: Probability = 0.5
    """Probability of a mirrored image."""
    op: Literal["horizontal_flip"] = field(default="horizontal_flip", kw_only=True)


@settings
class VerticalFlip(_Phase):
    p: Probability = 0.5
    """Probability of an upside-down image."""
    op: Literal["vertical_flip"] = field(default="vertical_flip", kw_only=True)


@settings
class AlternatingFlip(_Phase):
    """Each image is mirrored at random in the first epoch and then every other epoch (airbench)."""

    op: Literal["alternating_flip"] = field(default="alternating_flip", kw_only=True)


@settings
class PadCrop(_Phase):
    """Pad every side, then cut a random window of `Data.image_size`."""

    padding: Pixels
    """Pixels added on each side."""
    mode: Literal["zero", "reflect"] = "zero"
    op: Literal["pad_crop"] = field(default="pad_crop", kw_only=True)


@settings
class RandomCrop(_Phase):
    """A random window of `Data.image_size` from the canvas."""

    op: Literal["random_crop"] = field(default="random_crop", kw_only=True)


@settings
class RandomResizedCrop(_Phase):
    """A random window of random area and aspect ratio, resized to `Data.image_size` (torchvision's)."""

    scale: Interval = (0.08, 1.0)
    """Least and greatest share of the image's area."""
    ratio: Interval = (3 / 4, 4 / 3)
    """Least and greatest width / height of the window, in the original image's pixels."""
    op: Literal["random_resized_crop"] = field(default="random_resized_crop", kw_only=True)


@settings
class Affine(_Phase):
    """Rotation, shift, scale and shear about the centre (torchvision's RandomAffine)."""

    degrees: NonNegative = 0.0
    """Greatest rotation to either side, degrees."""
    translate: tuple[Probability, Probability] = (0.0, 0.0)
    """Greatest horizontal and vertical shift, share of width and height."""
    scale: Interval = (1.0, 1.0)
    """Least and greatest factor."""
    shear: NonNegative = 0.0
    """Greatest horizontal shear to either side, degrees."""
    fill: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Grey level outside the image; 0 is black, 1 is white."""
    interpolation: Interpolation = "bilinear"
    """torchvision's own default is "nearest"."""
    p: Probability = 1.0
    op: Literal["affine"] = field(default="affine", kw_only=True)


@settings
class Rotation(_Phase):
    """Rotation about the centre (torchvision's RandomRotation)."""

    degrees: NonNegative
    """Greatest angle to either side, degrees."""
    fill: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Grey level outside the image; 0 is black, 1 is white."""
    interpolation: Interpolation = "bilinear"
    """torchvision's own default is "nearest"."""
    p: Probability = 1.0
    op: Literal["rotation"] = field(default="rotation", kw_only=True)


@settings
class ColorJitter(_Phase):
    """torchvision's ColorJitter: the four changes in random order."""

    brightness: NonNegative = 0.0
    """Factor drawn from [1 − b, 1 + b]."""
    contrast: NonNegative = 0.0
    """Factor drawn from [1 − c, 1 + c]."""
    saturation: NonNegative = 0.0
    """Factor drawn from [1 − s, 1 + s]."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Shift drawn from [−h, h], full circles."""
    p: Probability = 1.0
    op: Literal["color_jitter"] = field(default="color_jitter", kw_only=True)


@settings
class Greyscale(_Phase):
    p: Probability = 0.1
    op: Literal["greyscale"] = field(default="greyscale", kw_only=True)


@settings
class GaussianBlur(_Phase):
    kernel: Annotated[int, Field(ge=3)]
    """Side of the kernel, pixels; odd."""
    sigma: Interval = (0.1, 2.0)
    """Least and greatest standard deviation, pixels."""
    p: Probability = 0.5
    op: Literal["gaussian_blur"] = field(default="gaussian_blur", kw_only=True)


@settings
class RandomErasing(_Phase):
    """A rectangle is replaced (Zhong et al. 2017; torchvision's)."""

    p: Probability = 0.5
    scale: Interval = (0.02, 0.33)
    """Least and greatest share of the image's area."""
    ratio: Interval = (0.3, 3.3)
    """Least and greatest height / width."""
    fill: Literal["mean", "black", "noise"] = "mean"
    """What replaces it: `Data.mean` (zero after normalisation), black, or normal noise after normalisation."""
    op: Literal["random_erasing"] = field(default="random_erasing", kw_only=True)


@settings
class Cutout(_Phase):
    """A square of `size` pixels, cut off by the border, is set to `Data.mean` (DeVries & Taylor 2017)."""

    size: Annotated[int, Field(gt=0)]
    """Side, pixels."""
    p: Probability = 1.0
    op: Literal["cutout"] = field(default="cutout", kw_only=True)


@settings
class AutoAugment(_Phase):
    policy: Literal["cifar10", "imagenet"]
    """Learnt policy of Cubuk et al. 2018."""
    op: Literal["auto_augment"] = field(default="auto_augment", kw_only=True)


@settings
class RandAugment(_Phase):
    num_ops: Annotated[int, Field(gt=0)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength, 0 to 30."""
    op: Literal["rand_augment"] = field(default="rand_augment", kw_only=True)


@settings
class TrivialAugmentWide(_Phase):
    op: Literal["trivial_augment_wide"] = field(default="trivial_augment_wide", kw_only=True)


@settings
class AugMix(_Phase):
    severity: Annotated[int, Field(ge=1, le=10)] = 3
    width: Annotated[int, Field(gt=0)] = 3
    """Number of augmentation chains."""
    depth: int = -1
    """Length of a chain; −1: one to three at random."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Concentration of the mixing weights."""
    op: Literal["aug_mix"] = field(default="aug_mix", kw_only=True)


@settings
class Mixup(_Phase):
    """Each image is blended with another of its batch, and so are their labels (Zhang et al. 2018)."""

    alpha: Annotated[float, Field(gt=0)]
    """The image's own share is drawn from Beta(alpha, alpha), one a batch, as in the paper's code; the partner is the
    neighbour in the shuffled batch."""
    p: Probability = 1.0
    """Probability that a batch is mixed."""
    op: Literal["mixup"] = field(default="mixup", kw_only=True)


@settings
class CutMix(_Phase):
    """A rectangle of another image of the batch is pasted in; labels by area (Yun et al. 2019)."""

    alpha: Annotated[float, Field(gt=0)]
    """The pasted area is 1 − Beta(alpha, alpha), one a batch."""
    p: Probability = 1.0
    """Probability that a batch is mixed."""
    op: Literal["cutmix"] = field(default="cutmix", kw_only=True)


@settings
class MixupOrCutMix(_Phase):
    """Each batch gets mixup or CutMix."""

    mixup_alpha: Annotated[float, Field(gt=0)]
    cutmix_alpha: Annotated[float, Field(gt=0)]
    switch: Probability = 0.5
    """Probability of CutMix."""
    p: Probability = 1.0
    """Probability that a batch is mixed."""
    op: Literal["mixup_or_cutmix"] = field(default="mixup_or_cutmix", kw_only=True)


Mix = Mixup | CutMix | MixupOrCutMix
Operation = Annotated[
    HorizontalFlip | VerticalFlip | AlternatingFlip | PadCrop | RandomCrop | RandomResizedCrop
    | Affine | Rotation | ColorJitter | Greyscale | GaussianBlur | RandomErasing | Cutout
    | AutoAugment | RandAugment | TrivialAugmentWide | AugMix | Mixup | CutMix | MixupOrCutMix,
    Field(discriminator="op"),
]  # fmt: skip
Policy = tuple[Operation, ...]
