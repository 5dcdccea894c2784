"""The architectures, their heads and their initialisers."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from imgcls_jax.config.base import settings

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "none"]
Init = Literal["torch", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "lecun_normal"]


@settings
class Dense:
    """A hidden layer of a head: linear → norm → activation → dropout."""

    features: Positive
    """Width."""
    norm: Literal["batch", "none"] = "none"
    activation: Activation = "relu"
    dropout: Rate = 0.0
    """Dropout rate after the activation."""


@settings
class Head:
    """From features to logits: dropout → [BatchNorm1d] → hidden layers → linear."""

    dropout: Rate = 0.0
    """Dropout rate on the features."""
    batch_norm: bool = False
    """BatchNorm1d on the features, after the dropout."""
    hidden: tuple[Dense, ...] = ()
    """Hidden layers before the output layer."""
    sigmoid: bool = False
    """One logit for a two-class task (class 1 against class 0), for binary cross-entropy, in place of a logit a
    class."""


@settings
class Conv:
    """One convolution of a CNN: convolution → norm → activation → pooling → dropout."""

    channels: Positive
    """Output channels."""
    kernel: Positive
    """Side of the square kernel, pixels."""
    stride: Positive = field(default=1, kw_only=True)
    """Stride, pixels."""
    padding: Annotated[int, Field(ge=0)] = field(default=0, kw_only=True)
    """Zeros added on each side, pixels; 0 is a "valid" convolution."""
    norm: Literal["batch", "none"] = field(default="none", kw_only=True)
    activation: Activation = field(default="relu", kw_only=True)
    pool: Positive = field(default=1, kw_only=True)
    """Window and stride of the max pooling; 1: none. A remainder of rows or columns is dropped, as in torch."""
    dropout: Rate = field(default=0.0, kw_only=True)
    """Rate of the channel-wise dropout (torch's Dropout2d) after the pooling."""


@settings
class CNN:
    """A plain stack of convolutions with a head."""

    convs: Annotated[tuple[Conv, ...], Field(min_length=1)]
    """The convolutions, from the image on."""
    aggregate: Literal["flatten", "average"]
    """How the last feature map becomes a vector: all of it, or each channel's average."""
    head: Head
    init: Init = "torch"
    """Initialiser of every kernel; biases are zero except under "torch"."""
    leaky_slope: Annotated[float, Field(ge=0)] = 0.01
    """Slope of "leaky_relu" below zero."""
    family: Literal["cnn"] = field(default="cnn", kw_only=True)


@settings
class ResNet:
    """torchvision's ResNet family, ResNeXt and Wide ResNet-2 included."""

    name: Literal[
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
        "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    ]  # fmt: skip
    head: Head
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """"imagenet": 7×7 convolution of stride 2 and 3×3 max pooling; "cifar": one 3×3 convolution of stride 1."""
    downsample_in: Literal["conv2", "conv1"] = "conv2"
    """Which convolution of a bottleneck carries the stride: the 3×3 (v1.5, as torchvision) or the first 1×1 (v1)."""
    zero_init_residual: bool = False
    """Start the last BatchNorm of every residual branch at scale zero."""
    stochastic_depth: Rate = 0.0
    """Drop rate of the last residual branch; it grows linearly from 0 at the first."""
    family: Literal["resnet"] = field(default="resnet", kw_only=True)


@settings
class CifarResNet:
    """The CIFAR ResNets of He et al. 2015, section 4.2: depth 6n + 2, 16-32-64 channels."""

    depth: Literal[20, 32, 44, 56, 110]
    head: Head
    shortcut: Literal["A", "B"] = "A"
    """"A": subsample and pad with zero channels; "B": 1×1 convolution with BatchNorm."""
    family: Literal["cifar_resnet"] = field(default="cifar_resnet", kw_only=True)


@settings
class WideResNet:
    """Wide ResNet of Zagoruyko & Komodakis 2016, pre-activation; WRN-28-10 is depth 28, width 10."""

    depth: Annotated[int, Field(ge=10)]
    """Number of convolutions, 6n + 4."""
    width: Positive
    """Multiple of the 16-32-64 channels."""
    head: Head
    dropout: Rate = 0.0
    """Dropout rate between the two convolutions of a block."""
    family: Literal["wide_resnet"] = field(default="wide_resnet", kw_only=True)


@settings
class SqueezeNet:
    """torchvision's SqueezeNet: Fire modules, then dropout and a 1×1 convolution as the classifier."""

    version: Literal["1_0", "1_1"]
    dropout: Rate = 0.5
    """Dropout rate before the classifier."""
    num_outputs: Positive | None = None
    """Number of logits, where a published classifier with more of them than the data has classes is to be kept; None:
    one a class."""
    family: Literal["squeezenet"] = field(default="squeezenet", kw_only=True)


@settings
class Airbench:
    """The network of the CIFAR-10 speed run airbench94 (Jordan 2024): a convolution that whitens patches of 2×2 pixels,
    computed from the training images and to be frozen ("whiten.kernel"), and three groups of two 3×3 convolutions."""

    widths: tuple[Positive, Positive, Positive] = (64, 256, 256)
    """Channels of the groups."""
    whitening_eps: Annotated[float, Field(gt=0)] = 5e-4
    """Added to the variance of each direction of the patches, so that the faintest are not blown up."""
    family: Literal["airbench"] = field(default="airbench", kw_only=True)


@settings
class DINOv2:
    """DINOv2's vision transformer with patches of 14 pixels (Oquab et al. 2023; registers: Darcet et al. 2023)."""

    size: Literal["small", "base", "large"]
    head: Head
    registers: bool = False
    """Four register tokens."""
    features: Literal["cls", "cls_patch_mean"] = "cls"
    """What the head sees: the class token, or it and the mean of the patch tokens, concatenated."""
    stochastic_depth: Rate = 0.0
    """Drop rate of every residual branch."""
    family: Literal["dinov2"] = field(default="dinov2", kw_only=True)


Model = Annotated[
    CNN | ResNet | CifarResNet | WideResNet | SqueezeNet | Airbench | DINOv2, Field(discriminator="family")
]
