"""Where the parameters come from and which of them train."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls_jax.config.registry import settings

Epoch = Annotated[int, Field(gt=0)]


@settings
class Group:
    """Parameters with a learning rate or weight decay of their own. The first group that matches counts."""

    pattern: str
    """Shell wildcards over parameter paths, such as "layer4.*"; the group's name in tables."""
    learning_rate_scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the schedule's learning rate."""
    weight_decay_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the optimizer's weight decay; 0 turns it off."""


@settings
class Unfreeze:
    """Parameters that are frozen at first and train from an epoch on."""

    pattern: str
    """Shell wildcards over parameter paths."""
    from_epoch: Epoch
    """First epoch (counted from 0, so at least 1) in which they train."""


@settings
class BatchNormMode:
    """Set what BatchNorm layers do in training, by three independent switches. Freezing parameters changes none of
    them."""

    train_affine: bool = True
    """Whether the backbone's scales and biases train; BatchNorm layers of the head always do."""
    normalize_by: Literal["batch", "running"] = "batch"
    """Statistics that normalize a training batch; evaluation always uses the running ones."""
    update_running: bool = True
    """Whether training updates the running statistics."""


@settings
class Transfer:
    """Which parameters are loaded, replaced, frozen. Patterns are shell wildcards over parameter paths as the start
    table prints them ("layer4.*", "head.*"); one that matches nothing is an error."""

    init_from: str | None = None
    """A torch or safetensors file, a published name ("torchvision/resnet50.IMAGENET1K_V2"), a repository that timm or
    `imgcls push` filled ("hf:timm/resnet50.a1_in1k"), a folder of the latter, or a work directory; None: everything is
    random."""
    replace: tuple[str, ...] = ()
    """Parameters (and BatchNorm statistics) that keep their random initialization although `init_from` is given."""
    freeze: tuple[str, ...] = ()
    """Parameters that do not train, or only from the epoch that `unfreeze` gives them."""
    train_last: Annotated[int, Field(gt=0)] | None = None
    """Number N of tensors, from the end, that train; the others freeze. They are counted in the order of torch's
    `parameters()`, as if the head were one linear layer (2 tensors), so that a number from a torch program means the
    same here; the real head always trains whole. Of a ResNet-50 (159 tensors and 2), N = 50 trains the last 48 of the
    159. BatchNorm's running statistics do not count. None: all."""
    unfreeze: tuple[Unfreeze, ...] = ()
    """Gradual unfreezing. The first entry that matches a parameter counts; from its epoch on it overrides `freeze` and
    `train_last`."""
    groups: tuple[Group, ...] = ()
    """Parameters with learning rates or weight decays of their own."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each stage's learning rate is this share of the next one's; the head has the full rate. Stages are a ResNet's
    stem and layers, a transformer's blocks, a SqueezeNet's Fire modules, a CNN's convolutions."""
    batch_norm: BatchNormMode = field(default_factory=BatchNormMode)
    """What BatchNorm layers do in training."""
    allow_frozen_random: bool = False
    """Allow a randomly initialized parameter to be frozen."""

    @model_validator(mode="after")
    def _replace_needs_source(self) -> "Transfer":
        if self.replace and self.init_from is None:
            raise ValueError("transfer.replace needs transfer.init_from: without it every parameter is random")
        return self
