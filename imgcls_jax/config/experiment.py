"""The whole experiment: one tree, given by a Python file under configs/."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls_jax.config.augment import Policy
from imgcls_jax.config.callback import Callback
from imgcls_jax.config.data import Canvas, Data, Source
from imgcls_jax.config.metric import Metric
from imgcls_jax.config.model import Model
from imgcls_jax.config.optim import Loss, Optim
from imgcls_jax.config.registry import settings
from imgcls_jax.config.transfer import Transfer

Views = Literal["flip", "flip_shift", "five_crop", "ten_crop"]
Steps = Annotated[int, Field(gt=0)]
BatchSize = Annotated[int, Field(gt=0, le=1_000_000)]


@settings
class EarlyStopping:
    """Stop when the metric has not improved for `patience` epochs."""

    patience: Annotated[int, Field(gt=0)]
    """Epochs without improvement after which training stops."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change that counts as an improvement, in the metric's unit."""


@settings
class Best:
    """Which validation metric decides the best checkpoint and early stopping."""

    metric: str = "top1"
    """"loss", of which the lowest is best, "top1", "top5", or the name of one of `Config.metrics`; "NAME/top1" is that
    of the evaluator NAME instead of the validation images."""


@settings
class Evaluator:
    """A further set of images to evaluate, with preprocessing of its own: images of another year, another camera, a
    higher resolution."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Key of its figures in records and results; its top-1 is "NAME/top1" in `Best.metric`."""
    source: Source | None = None
    """Where the images come from; its classes must be classes of the training images, by name. None: the run's own."""
    split: Literal["train", "validation", "test"] | None = None
    """Which images of the source; None: the run's own validation images, or of another source its "train" images, which
    are all there are in a folder of classes."""
    canvas: Canvas | None = None
    """What the host makes of each image; None: as the run's own evaluation images."""
    image_size: tuple[int, int] | None = None
    """Height and width that enter the model, pixels; None: as in training."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel; None: as in training."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel; None: as in training."""
    test_views: Views | None = None
    """Average the predictions of several views of each image, as `Config.test_views`; None: the center alone."""
    every_epochs: Annotated[int, Field(gt=0)] = 1
    """Number of epochs between two evaluations; the last epoch is always evaluated."""
    every_steps: Steps | None = None
    """Number of steps between further evaluations inside epochs; None: none."""


@settings
class Recover:
    """Recover from a loss or parameters that are NaN or infinite: return to the newest good checkpoint and continue
    at a lower learning rate."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor on the learning rate at each recovery; it stays until the end of the run."""
    times: Annotated[int, Field(gt=0)] = 3
    """Largest number of recoveries; at the next such loss the run stops."""


@settings
class Mesh:
    """Share the work among devices: each group of `fsdp` devices holds the parameters once; groups split the batch."""

    fsdp: Annotated[int, Field(ge=1)] = 1
    """Devices over which every large parameter and its optimizer state are split."""
    devices: Annotated[int, Field(ge=1)] | None = None
    """Number of local devices to use; None: all."""


@settings
class Logging:
    """Where figures are written besides metrics.jsonl."""

    tensorboard: bool = True
    """Event files under WORKDIR/tensorboard."""
    wandb_project: str | None = None
    """Weights & Biases project; None: off. Needs the extra `wandb`; WANDB_MODE=offline works."""
    mlflow_experiment: str | None = None
    """MLflow experiment; None: off. Needs the extra `mlflow`; MLFLOW_TRACKING_URI says where it is."""
    trackio_project: str | None = None
    """Trackio project; None: off. Needs `pip install trackio` (and so Pillow < 13); TRACKIO_DIR says where it is."""
    pictures: bool = True
    """Give TensorBoard and the others pictures, too: what augmentation makes of four images at the start; mistakes.png
    and confusion.png at the end, where `predictions` asks for them."""
    predictions: bool = True
    """At the end of a run, keep what its best epoch predicts (predictions_validation.npz, predictions_test.npz), and
    write confusion.png, mistakes.png and per_class.csv of the validation images."""


@settings
class Config:
    """One experiment."""

    name: str
    """Short name, used for the default work directory."""
    data: Data
    """The images: where they come from, how they are split, sized and fed."""
    augment: Policy
    """Augmentation of the training images, in order."""
    model: Model
    """The network."""
    loss: Loss
    """What training minimizes."""
    optim: Optim
    """The optimizer, its learning rates, and what happens to gradients and parameters around a step."""
    batch_size: BatchSize
    """Images per step, over all devices. The remainder of an epoch is left out; it is another one in each epoch."""
    epochs: Annotated[int, Field(gt=0, le=1_000_000)]
    """Passes over the training images."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Arithmetic of activations and gradients; parameters, statistics, loss and metrics stay float32. "fp16" brings
    dynamic loss scaling."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """Seed of initialization, order, augmentation and dropout."""
    remat: bool = False
    """Rematerialization: keep only the outputs of convolutions and matrix products for the backward pass, and compute
    normalizations, activations and pooling again. Takes less memory and more time; no effect on a CPU, where XLA undoes
    it."""
    cpu_convolutions: Literal["xla", "onednn"] = "xla"
    """What computes the convolutions of training on a CPU; no effect on other devices. "onednn": the kernels that torch
    runs too, of Linux on x86 with AVX-512; faster, most of all in "bf16" on processors with AVX512_BF16. Sums are
    rounded in another order, and the step is compiled anew at every start."""
    bn_group: Annotated[int, Field(ge=1)] | None = None
    """Devices whose images BatchNorm normalizes together in training; it must divide their number. 1: each device by
    itself, as torch's BatchNorm in DistributedDataParallel, without a sum between devices; N: each N neighbors, as
    torch's SyncBatchNorm in process groups. Running statistics are the average of all groups. None: all devices, so
    that the numbers do not depend on them."""
    transfer: Transfer = field(default_factory=Transfer)
    """Loading, replacing and freezing of parameters."""
    eval_batch_size: BatchSize | None = None
    """Images per evaluation step, over all devices; None: as `batch_size`. Every example counts exactly once."""
    test_views: Views | None = None
    """Test-time augmentation: average the predicted probabilities of several views of each test image. "flip": the
    center and its mirror image; "flip_shift": also both of the image moved by one pixel, up left and down right, the
    border reflected (airbench); "five_crop": the corners and the center of the canvas; "ten_crop": these and their
    mirror images. None: the center alone, as in every validation during training."""
    metrics: tuple[Metric, ...] = ()
    """Figures that every evaluation computes besides "loss", "top1" and "top5"."""
    callbacks: tuple[Callback, ...] = ()
    """What else watches the run."""
    best: Best = field(default_factory=Best)
    """Which epoch counts as the best one: its checkpoint is kept and tested."""
    early_stopping: EarlyStopping | None = None
    """When to stop before the last epoch; None: never."""
    recover: Recover | None = None
    """None: a loss that is NaN or infinite stops the run; its last good checkpoint is kept."""
    mesh: Mesh = field(default_factory=Mesh)
    """Which devices take part, and how they share the work."""
    logging: Logging = field(default_factory=Logging)
    """Where figures go besides the work directory's own files."""
    max_steps: Steps | None = None
    """Steps after which training ends, even inside an epoch; None: after `epochs`. Schedules keep their length."""
    evaluate_every_steps: Steps | None = None
    """Number of steps between evaluations of the validation images inside an epoch; None: only at the end of each
    epoch. These evaluations are recorded and change nothing else: epochs alone decide which checkpoint is best."""
    evaluators: tuple[Evaluator, ...] = ()
    """Further sets of images to evaluate."""
    save_every_steps: Steps | None = None
    """Number of steps between checkpoints inside an epoch; None: only at the end of each epoch."""
    save_every_minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes between checkpoints inside an epoch; None: only at the end of each epoch."""
    log_every_steps: Steps | None = None
    """Number of steps between records of the gradient's, the parameters' and the update's norm, the learning rate and
    the loss; None: no such records. A recorded step takes twice its time; the parameters are the same with and
    without."""

    @model_validator(mode="after")
    def _is_named_as_a_folder(self) -> "Config":
        parts = self.name.split("/")
        if not self.name.isprintable() or any(p.strip() in ("", ".", "..") or len(p.encode()) > 200 for p in parts):
            raise ValueError(
                f"name is {self.name[:50]!r}, but a run is kept in runs/NAME: give a short one, of letters and digits"
            )
        return self
