"""The whole experiment: one tree, given by a Python file under configs/."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from imgcls_jax.config.augment import Policy
from imgcls_jax.config.base import settings
from imgcls_jax.config.data import Data
from imgcls_jax.config.model import Model
from imgcls_jax.config.optim import Loss, Optim
from imgcls_jax.config.transfer import Transfer

Views = Literal["flip", "flip_shift", "five_crop", "ten_crop"]


@settings
class EarlyStopping:
    """Stop when the metric has not improved for `patience` epochs."""

    patience: Annotated[int, Field(gt=0)]
    """Epochs without improvement after which training stops."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Least change that counts as an improvement, in the metric's unit."""


@settings
class Best:
    """Which validation metric decides the best checkpoint and early stopping."""

    metric: Literal["loss", "top1", "top5"] = "top1"
    """"loss": the lowest is best; "top1" and "top5": the highest."""


@settings
class Recover:
    """What to do about a loss that is NaN or infinite: go back to the newest checkpoint and on at a lower rate."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """On the learning rate, each time, to the end of the run."""
    times: Annotated[int, Field(gt=0)] = 3
    """How often; the next time the run stops."""


@settings
class Mesh:
    """How devices share the work. Devices that `fsdp` leaves form the data axis."""

    fsdp: Annotated[int, Field(ge=1)] = 1
    """Devices over which every large parameter and its optimiser state are split."""
    devices: Annotated[int, Field(ge=1)] | None = None
    """Number of local devices to use; None: all."""


@settings
class Logging:
    """What is written besides metrics.jsonl."""

    tensorboard: bool = True
    """Event files under WORKDIR/tensorboard."""
    wandb_project: str | None = None
    """Weights & Biases project; None: off. Needs the extra `wandb`; honours WANDB_MODE=offline."""


@settings
class Config:
    """One experiment."""

    name: str
    """Short name, used for the default work directory."""
    data: Data
    augment: Policy
    """Augmentation of the training images, in order."""
    model: Model
    loss: Loss
    optim: Optim
    batch_size: Annotated[int, Field(gt=0)]
    """Images a step over all devices; the epoch's remainder, shuffled anew each epoch, is left out."""
    epochs: Annotated[int, Field(gt=0)]
    """Passes over the training images."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Arithmetic of activations and gradients; parameters, statistics, loss and metrics stay float32. "fp16" brings
    dynamic loss scaling."""
    seed: Annotated[int, Field(ge=0)]
    """Seed of initialisation, order, augmentation and dropout."""
    remat: bool = False
    """Rematerialisation: the backward pass computes normalisations, activations and pooling again and keeps only the
    outputs of convolutions and matrix products, which takes less memory and more time. On GPU and TPU; XLA's CPU
    backend undoes it."""
    transfer: Transfer = field(default_factory=Transfer)
    """Loading, replacing and freezing of parameters."""
    eval_batch_size: Annotated[int, Field(gt=0)] | None = None
    """Images an evaluation step over all devices; None: as `batch_size`. Every example counts exactly once."""
    test_views: Views | None = None
    """Average the predicted probabilities of several views of each test image: "flip": the centre and its mirror image;
    "flip_shift": also both of the image moved by one pixel, up left and down right, the border reflected (airbench);
    "five_crop": the corners and the centre of the canvas; "ten_crop": these and their mirror images. None: the centre
    alone, as the validation in training always does."""
    best: Best = field(default_factory=Best)
    early_stopping: EarlyStopping | None = None
    recover: Recover | None = None
    """None: a loss that is NaN or infinite stops the run; its last good checkpoint is kept."""
    mesh: Mesh = field(default_factory=Mesh)
    logging: Logging = field(default_factory=Logging)
    save_every_steps: Annotated[int, Field(gt=0)] | None = None
    """Also save inside an epoch, every this many steps; None: at the end of each epoch only."""
