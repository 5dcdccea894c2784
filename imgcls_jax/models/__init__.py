"""The architectures: `build` makes any of them from its config; `MODELS` names those of the literature."""

from collections.abc import Callable

import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from imgcls_jax.config import model as cfg
from imgcls_jax.models.airbench import Airbench, whitening_kernel
from imgcls_jax.models.cifar_resnet import CifarResNet
from imgcls_jax.models.cnn import CNN
from imgcls_jax.models.dinov2 import DINOv2
from imgcls_jax.models.resnet import ResNet
from imgcls_jax.models.squeezenet import SqueezeNet
from imgcls_jax.models.wide_resnet import WideResNet

FAMILIES: dict[str, Callable[..., nnx.Module]] = {
    "cnn": CNN,
    "resnet": ResNet,
    "cifar_resnet": CifarResNet,
    "wide_resnet": WideResNet,
    "squeezenet": SqueezeNet,
    "airbench": Airbench,
    "dinov2": DINOv2,
}
"""The constructor of each `family` of configs."""

_linear = cfg.Head()
# From how many pixels initial values are computed: those of 5,000 images of CIFAR-10, as in the reference.
_PIXELS = 5000 * 32 * 32

MODELS: dict[str, cfg.Model] = {
    "resnet18": cfg.ResNet("resnet18", _linear),
    "resnet34": cfg.ResNet("resnet34", _linear),
    "resnet50": cfg.ResNet("resnet50", _linear),
    "resnet101": cfg.ResNet("resnet101", _linear),
    "resnet152": cfg.ResNet("resnet152", _linear),
    "resnext50_32x4d": cfg.ResNet("resnext50_32x4d", _linear),
    "resnext101_32x8d": cfg.ResNet("resnext101_32x8d", _linear),
    "resnext101_64x4d": cfg.ResNet("resnext101_64x4d", _linear),
    "wide_resnet50_2": cfg.ResNet("wide_resnet50_2", _linear),
    "wide_resnet101_2": cfg.ResNet("wide_resnet101_2", _linear),
    "cifar_resnet20": cfg.CifarResNet(20, _linear),
    "cifar_resnet32": cfg.CifarResNet(32, _linear),
    "cifar_resnet44": cfg.CifarResNet(44, _linear),
    "cifar_resnet56": cfg.CifarResNet(56, _linear),
    "cifar_resnet110": cfg.CifarResNet(110, _linear),
    "wrn28_10": cfg.WideResNet(28, 10, _linear),
    "squeezenet1_0": cfg.SqueezeNet("1_0"),
    "squeezenet1_1": cfg.SqueezeNet("1_1"),
    "airbench94": cfg.Airbench(),
    "dinov2_vits14": cfg.DINOv2("small", _linear),
    "dinov2_vitb14": cfg.DINOv2("base", _linear),
    "dinov2_vitl14": cfg.DINOv2("large", _linear),
    "dinov2_vits14_reg": cfg.DINOv2("small", _linear, registers=True),
    "dinov2_vitb14_reg": cfg.DINOv2("base", _linear, registers=True),
    "dinov2_vitl14_reg": cfg.DINOv2("large", _linear, registers=True),
}
"""The config of each published architecture, with a plain linear head."""


def num_outputs(config: cfg.Model, num_classes: int) -> int:
    """Number of logits on data of `num_classes` classes: as many, unless the config keeps a published classifier."""
    return getattr(config, "num_outputs", None) or num_classes


def build(
    config: cfg.Model,
    *,
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """A freshly initialised model in training mode.

    `model(x, rngs=…)` maps float images [b, h, w, channels] to float32 logits [b, num_classes], or [b, 1] with a
    sigmoid head; `model.stages(x, rngs=…)` gives the output of every stage by name, in order, the logits last.
    `nnx.view(model, deterministic=…, use_running_average=…, update_running=…)` sets the modes.

    Args:
      config: the architecture.
      num_classes: number of classes of the data.
      channels: channels of the images.
      image_size: height and width of the images, pixels. Only a CNN that flattens its maps is bound to it.
      dtype: dtype of the activations; parameters, statistics and logits are float32.
      rngs: source of the initial parameters.

    Raises:
      UserError: the architecture cannot take such images or classes.
    """
    return FAMILIES[config.family](
        config, num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs
    )


def computed(
    config: cfg.Model, images: Callable[[int], Float[np.ndarray, "n h w c"]]
) -> dict[str, Float[np.ndarray, "..."]]:
    """Initial values that follow from the training images, by parameter path; they stand in for random ones.

    Args:
      config: the architecture. Only `Airbench` has such a parameter, its whitening convolution.
      images: gives normalised training images of about this many pixels in all; called where they are needed.
    """
    if isinstance(config, cfg.Airbench):
        return {"whiten.kernel": whitening_kernel(images(_PIXELS), config.whitening_eps)}
    return {}
