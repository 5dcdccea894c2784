"""Losses, optimisers, schedules."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from imgcls_jax.config.base import settings

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Epochs = Annotated[int, Field(gt=0)]
Steps = Annotated[int, Field(gt=0)]


@settings
class CrossEntropy:
    """Softmax cross-entropy against hard or mixed labels."""

    label_smoothing: Fraction = 0.0
    """Share of the label's mass spread evenly over all classes, as in torch."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced": each class weighs N / (classes · its count) of the training split, 1 on average."""
    loss: Literal["cross_entropy"] = field(default="cross_entropy", kw_only=True)


@settings
class BinaryCrossEntropy:
    """Sigmoid cross-entropy: of the one logit of `Head(sigmoid=True)`, or of every class's logit against its
    (smoothed, mixed) label, summed over classes."""

    label_smoothing: Fraction = 0.0
    """Share of the label's mass spread evenly over the classes."""
    loss: Literal["binary_cross_entropy"] = field(default="binary_cross_entropy", kw_only=True)


@settings
class Focal:
    """Softmax focal loss (Lin et al. 2017)."""

    gamma: NonNegative = 2.0
    """Exponent of 1 − p."""
    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    loss: Literal["focal"] = field(default="focal", kw_only=True)


Loss = Annotated[CrossEntropy | BinaryCrossEntropy | Focal, Field(discriminator="loss")]


@settings
class SGD:
    """torch's SGD; weight decay is added to the gradient."""

    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    name: Literal["sgd"] = field(default="sgd", kw_only=True)


@settings
class Adam:
    """torch's Adam; weight decay is added to the gradient."""

    b1: Fraction = 0.9
    b2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    name: Literal["adam"] = field(default="adam", kw_only=True)


@settings
class AdamW:
    """torch's AdamW; weight decay is apart from the gradient and scaled by the learning rate."""

    b1: Fraction = 0.9
    b2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 1e-2
    name: Literal["adamw"] = field(default="adamw", kw_only=True)


@settings
class RMSprop:
    """RMSprop, of torch or of Keras. They differ in three ways: Keras's epsilon stands inside the root, its momentum
    sums steps that already carry their learning rate, and its weight decay stays apart from the gradient."""

    variant: Literal["torch", "keras"]
    decay: Fraction
    """Smoothing constant; torch's default is 0.99, Keras's 0.9."""
    eps: Positive
    """torch's default is 1e-8, Keras's 1e-7."""
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    name: Literal["rmsprop"] = field(default="rmsprop", kw_only=True)


@settings
class Lion:
    """Chen et al. 2023."""

    b1: Fraction = 0.9
    b2: Fraction = 0.99
    weight_decay: NonNegative = 0.0
    name: Literal["lion"] = field(default="lion", kw_only=True)


@settings
class LAMB:
    """You et al. 2020."""

    b1: Fraction = 0.9
    b2: Fraction = 0.999
    eps: Positive = 1e-6
    weight_decay: NonNegative = 0.0
    name: Literal["lamb"] = field(default="lamb", kw_only=True)


@settings
class Muon:
    """Muon (Jordan et al. 2024) with Nesterov momentum for kernels, another optimiser for the rest."""

    momentum: Fraction = 0.95
    newton_schulz_steps: Annotated[int, Field(gt=0)] = 5
    weight_decay: NonNegative = 0.0
    """Of its kernels; `rest` has its own."""
    kernels: Literal["all", "convolutions"] = "all"
    """Which kernels it takes. "convolutions" leaves dense layers to `rest`: to orthogonalise a wide one costs as much
    as a small network's step."""
    normalise: bool = False
    """Before each step, scale each of its kernels to the norm √(output channels), as airbench does. A kernel before a
    BatchNorm then has a learning rate that does not fall as the kernel grows."""
    rest: Annotated[AdamW | SGD, Field(discriminator="name")] = field(default_factory=lambda: AdamW(weight_decay=0.0))
    """Optimiser of all other parameters."""
    rest_learning_rate_scale: Positive = 0.1
    """Learning rate of `rest`, relative to the schedule's."""
    name: Literal["muon"] = field(default="muon", kw_only=True)


@settings
class ScheduleFreeAdamW:
    """Defazio et al. 2024; evaluated at its averaged parameters. Takes a constant schedule, with or without warm-up.
    BatchNorm's running statistics are those of the parameters nearby that train, which can cost accuracy."""

    b1: Fraction = 0.9
    b2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    name: Literal["schedule_free_adamw"] = field(default="schedule_free_adamw", kw_only=True)


Optimizer = Annotated[
    SGD | Adam | AdamW | RMSprop | Lion | LAMB | Muon | ScheduleFreeAdamW, Field(discriminator="name")
]


@settings
class Constant:
    shape: Literal["constant"] = field(default="constant", kw_only=True)


@settings
class Step:
    """torch's StepLR."""

    every: Epochs
    """Epochs between two changes."""
    factor: Positive
    shape: Literal["step"] = field(default="step", kw_only=True)


@settings
class MultiStep:
    """torch's MultiStepLR."""

    at: Annotated[tuple[Epochs, ...], Field(min_length=1)]
    """Epochs of the changes, counted from the warm-up's end."""
    factor: Positive
    shape: Literal["multi_step"] = field(default="multi_step", kw_only=True)


@settings
class Exponential:
    """torch's ExponentialLR."""

    factor: Positive
    """Factor an epoch."""
    shape: Literal["exponential"] = field(default="exponential", kw_only=True)


@settings
class Polynomial:
    """torch's PolynomialLR, to zero at `epochs`; power 1 is linear."""

    power: Positive = 1.0
    epochs: Epochs | None = None
    """Length, epochs from the warm-up's end; None: to the end of training."""
    shape: Literal["polynomial"] = field(default="polynomial", kw_only=True)


@settings
class Cosine:
    """torch's CosineAnnealingLR."""

    epochs: Epochs | None = None
    """Half a period (T_max), epochs; None: to the end of training. As in torch, the rate rises again after it."""
    final: NonNegative = 0.0
    """Least learning rate."""
    shape: Literal["cosine"] = field(default="cosine", kw_only=True)


@settings
class CosineRestarts:
    """torch's CosineAnnealingWarmRestarts (SGDR, Loshchilov & Hutter 2017)."""

    first: Epochs
    """Length of the first cycle (T_0), epochs."""
    multiply: Annotated[int, Field(ge=1)] = 1
    """Each cycle is this many times as long as the one before (T_mult)."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each cycle starts at this share of the one before's peak."""
    final: NonNegative = 0.0
    """Least learning rate."""
    shape: Literal["cosine_restarts"] = field(default="cosine_restarts", kw_only=True)


@settings
class OneCycle:
    """torch's OneCycleLR, over the whole training, cosine annealing; it brings its own warm-up."""

    warmup_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the training spent rising (pct_start)."""
    initial_division: Positive = 25.0
    """The first learning rate is the peak divided by this."""
    final_division: Positive = 1e4
    """The last learning rate is the first divided by this."""
    shape: Literal["one_cycle"] = field(default="one_cycle", kw_only=True)


@settings
class ReduceOnPlateau:
    """torch's ReduceLROnPlateau on the validation loss or accuracy."""

    metric: Literal["loss", "top1"] = "loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 10
    """Epochs without improvement that are let pass."""
    threshold: NonNegative = 1e-4
    """Least relative improvement that counts."""
    minimum: NonNegative = 0.0
    """Least learning rate."""
    shape: Literal["reduce_on_plateau"] = field(default="reduce_on_plateau", kw_only=True)


Shape = Annotated[
    Constant | Step | MultiStep | Exponential | Polynomial | Cosine | CosineRestarts | OneCycle | ReduceOnPlateau,
    Field(discriminator="shape"),
]


@settings
class Schedule:
    """The learning rate over time: a linear warm-up, then a shape that starts when the warm-up ends."""

    peak: Positive
    """Learning rate at the end of the warm-up, and where the shape starts (or its highest)."""
    shape: Shape
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Length of the linear warm-up, epochs."""
    warmup_from: Annotated[float, Field(ge=0, le=1)] = 0.1
    """First learning rate as a share of the peak (torch's LinearLR start_factor)."""
    per: Literal["step", "epoch"] = "step"
    """Whether the rate changes every step or, as most torch programs do, once an epoch."""


@settings
class Clip:
    """Gradient clipping, before the optimiser."""

    by: Literal["global_norm", "value", "adaptive"]
    """"global_norm": torch's clip_grad_norm_; "value": element by element; "adaptive": by unit-wise norms relative to
    the parameters' (Brock et al. 2021)."""
    limit: Positive
    """Greatest norm, value or relative norm."""


@settings
class EMA:
    """Exponential moving average of parameters and BatchNorm statistics, evaluated in place of the raw ones."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Share of the old average that stays at a step; warmed up as min(decay, (1 + t) / (10 + t))."""


@settings
class SWA:
    """Stochastic weight averaging (Izmailov et al. 2018): equal average of each epoch's last parameters; BatchNorm
    statistics are averaged alike."""

    from_epoch: Annotated[int, Field(ge=0)]
    """First epoch (counted from 0) whose end enters the average."""


@settings
class Lookahead:
    """Zhang et al. 2019: every `every` steps the slow parameters move `share` of the way to the fast ones, which go on
    from there. The slow ones are evaluated."""

    every: Steps = 5
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


@settings
class Optim:
    """The optimiser's chain, in the order that it runs: accumulate → unscale → clip → optimiser (weight decay
    included) → learning rate → lookahead → averages."""

    optimizer: Optimizer
    schedule: Schedule
    clip: Clip | None = None
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Micro-batches a step: `batch_size` is split into this many parts whose gradients are averaged. Exact, but
    BatchNorm sees each part by itself."""
    decay_norm_and_bias: bool = False
    """Whether weight decay also shrinks biases and the scales of norms, as plain torch optimisers do."""
    ema: EMA | None = None
    swa: SWA | None = None
    lookahead: Lookahead | None = None
    sam_radius: NonNegative = 0.0
    """Radius of sharpness-aware minimisation (Foret et al. 2021); 0: off. Doubles the cost of a step."""
