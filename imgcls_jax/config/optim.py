"""The roots of losses, optimizers and schedule shapes, and the settings around them.

The classes of this package are in `imgcls_jax.optim`: losses.py, schedules.py, plateau.py, and one module per family of
optimizers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from imgcls_jax.config.registry import Component, settings

if TYPE_CHECKING:
    import numpy as np
    import optax
    from jax import Array

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Epochs = Annotated[int, Field(gt=0)]
Steps = Annotated[int, Field(gt=0)]
Task = Literal["classes", "labels", "numbers"]
"""What is learned of an image: one of several classes; any number of labels; or one or more numbers."""


class Loss(Component, root=True):
    """What training minimizes: a value for each example, computed from its logits and its label."""

    sigmoid: ClassVar[bool] = False
    """Whether each logit is a probability of its own, by a sigmoid, rather than all of them by one softmax. Only such a
    loss can train the single logit of `Head(sigmoid=True)`, and test-time views are averaged accordingly."""
    task: ClassVar[Task] = "classes"
    """What the loss compares outputs with, and so the task of the experiment: a class per image, "labels" (several
    or none are right: uint8 [n, labels], multi-label) or "numbers" (float32 [n, numbers], regression)."""

    def build(self, *, num_classes: int, class_counts: Sequence[int] | None = None) -> "Callable[..., Array]":
        """Make the function (logits, labels) → loss of each example; training minimizes its mean.

        The function is traced inside `jax.jit`. It takes float32 logits [b, num_classes] and float labels
        [b, num_classes], each row a distribution over the classes (one-hot, or mixed by mixup), and returns float32
        [b]. With a head of one sigmoid output, logits are [b, 1] and labels float [b], the probability of class 1.
        Where `task` is not "classes", labels are float32 [b, outputs]: 0 or 1 (or between, by mixup), or numbers.

        Args:
          num_classes: number of classes.
          class_counts: number of training images of each class.

        Raises:
          UserError: the loss cannot be computed for such classes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method build")

    def balances_classes(self) -> bool:
        """Tell whether rare classes weigh more, which must not be combined with balanced sampling."""
        return False


class Part(NamedTuple):
    """A group of parameters that one optimizer updates."""

    optimizer: "Optimizer"
    learning_rate_scale: float = 1.0
    """Factor on the schedule's learning rate."""


class Optimizer(Component, root=True):
    """How gradients become steps. A subclass builds an optax optimizer from its settings:

        class AdaBelief(c.Optimizer):
            b1: float = 0.9
            weight_decay: float = 0.0

            def build(self, learning_rate):
                return optax.adabelief(learning_rate, b1=self.b1)

    All of `Optim` works with it. Its gradients arrive averaged over `accumulate` parts, unscaled and clipped;
    `lookahead` wraps it; `ema`, `swa` and `sam_radius` work around it. What concerns single parameters acts on its
    steps:

    - the learning-rate factors of `Transfer.groups` and `Transfer.layer_decay` multiply the step of each parameter,
      which is exact for every optimizer whose step is proportional to its learning rate;
    - a field named `weight_decay`, if there is one, is decoupled weight decay as in AdamW: each step also subtracts
      learning rate × weight decay × parameter, with the factors of groups, and not from norms and biases unless
      `Optim.decay_norm_and_bias`. So do not give it to optax as well.

    Where that is not what the optimizer needs, define `chain` in place of `build`.
    """

    def build(self, learning_rate: "Array | float") -> "optax.GradientTransformation":
        """Make the optimizer at a learning rate; what it returns is added to the parameters.

        It is made again at every trace of the training step, so that the learning rate may change from step to step
        without a recompilation. Its state must not hold the learning rate: `optax.inject_hyperparams` is refused, and
        so are optimizers whose update needs more than gradients and parameters (`optax.lbfgs`).

        Args:
          learning_rate: float32 scalar, traced: to be calculated with, not compared in Python.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method build")

    def chain(self, learning_rate: "Array | float", *, rates: Any, decay: Any) -> "optax.GradientTransformation | None":
        """Make the optimizer with each parameter's own learning rate and weight decay; None: as `Optimizer` says.

        Args:
          learning_rate: float32 scalar, traced.
          rates: factor on the learning rate of each parameter: a tree like the parameters, of Python floats.
          decay: weight decay of each parameter, likewise: the field `weight_decay` with all factors, 0 where there is
            none.
        """
        return None

    def split(self, params: Any) -> tuple[dict[str, Part], Any]:
        """Share the parameters among optimizers: the parts by name, and a tree like `params` of the parts' names.

        Args:
          params: nested dicts of arrays, or of their shapes; only parameters that train.
        """
        import jax  # only here: configs are read without JAX

        return {"main": Part(self)}, jax.tree.map(lambda _: "main", params)

    def evaluation_params(self, state: Any, params: Any) -> Any:
        """Return the parameters to evaluate; an optimizer that averages them itself returns others than `params`.

        Args:
          state: state of the optimizer.
          params: nested dicts of arrays that train.
        """
        return params

    def check(self, optim: "Optim", where: str) -> None:
        """Raise UserError for settings that contradict one another.

        Args:
          optim: the settings around the optimizer.
          where: path of the optimizer in the config, such as "optim.optimizer".
        """


class Shape(Component, root=True):
    """The course of the learning rate after the warm-up. A subclass computes its rates:

    class Halving(c.Shape):
        every: int = 10

        def rates(self, peak, *, entries, unit):
            return peak * 0.5 ** (np.arange(entries) // (self.every * unit))
    """

    def rates(self, peak: float, *, entries: int, unit: int) -> "np.ndarray":
        """Compute the learning rates from the end of the warm-up to the end of training; on the host, once.

        Args:
          peak: the schedule's highest learning rate, with which the warm-up ends.
          entries: number of rates.
          unit: number of rates per epoch: its steps, or 1 where `Schedule.per` is "epoch".

        Returns:
          float64 [entries], finite and not negative.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method rates")

    def watched(self) -> str | None:
        """Return the name of the validation metric that `adapt` reads; None where it reads none."""
        return None

    def adapt(
        self,
        history: Sequence[Mapping[str, Any]],
        *,
        schedule: "Schedule",
        higher_is_better: Mapping[str, bool],
    ) -> float:
        """Compute a factor on the next epoch's rates from the epochs so far; on the host, before each epoch.

        It must depend on its arguments alone, so that a resumed run goes on as an uninterrupted one.

        Args:
          history: a record of each epoch, {"epoch": counted from 0, "train": {"loss", "top1", "top5", "count"},
            "validation": the same and `Config.metrics` by name, or None, …}.
          schedule: the schedule of this shape, with the warm-up that the run really has.
          higher_is_better: the direction of each validation metric by its name.
        """
        return 1.0

    def check(self, schedule: "Schedule", *, epochs: int) -> None:
        """Raise UserError for settings that contradict the schedule or the length of training.

        Args:
          schedule: the schedule of this shape.
          epochs: length of training.
        """


@settings
class Schedule:
    """The learning rate over time: a linear warm-up, then a shape that starts when the warm-up ends."""

    peak: Positive
    """Learning rate at the end of the warm-up, where the shape starts: the highest one."""
    shape: Shape
    """Course of the learning rate after the warm-up."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Length of the linear warm-up, epochs. Training that is not longer has a warm-up of all epochs but the last."""
    warmup_from: Annotated[float, Field(ge=0, le=1)] = 0.1
    """First learning rate as a share of the peak (torch's LinearLR start_factor)."""
    per: Literal["step", "epoch"] = "step"
    """Whether the rate changes every step or, as in most torch programs, once per epoch."""


@settings
class Clip:
    """Gradient clipping, before the optimizer."""

    by: Literal["global_norm", "value", "adaptive"]
    """"global_norm": torch's clip_grad_norm_; "value": element by element; "adaptive": by unit-wise norms relative to
    the parameters' (Brock et al. 2021)."""
    limit: Positive
    """Greatest norm, value or relative norm."""


@settings
class EMA:
    """Exponential moving average of parameters and BatchNorm statistics, evaluated in place of the raw ones."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Share of the old average that remains at a step; warmed up as min(decay, (1 + t) / (10 + t))."""


@settings
class SWA:
    """Stochastic weight averaging (Izmailov et al. 2018): equal average of each epoch's last parameters; BatchNorm
    statistics are averaged alike."""

    from_epoch: Annotated[int, Field(ge=0)]
    """First epoch (counted from 0) whose end enters the average."""


@settings
class Lookahead:
    """Lookahead (Zhang et al. 2019): every `every` steps the slow parameters move `share` of the way to the fast ones,
    which continue from there. The slow ones are evaluated."""

    every: Steps = 5
    """Steps between two moves of the slow parameters."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the way."""


@settings
class Optim:
    """The optimizer's chain, in the order of its work: accumulate → unscale → clip → optimizer (weight decay
    included) → learning rate → lookahead → averages."""

    optimizer: Optimizer
    """How gradients become steps."""
    schedule: Schedule
    """The learning rate over time."""
    clip: Clip | None = None
    """Gradient clipping; None: none."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts into which each batch is split; their gradients are averaged. Exact, but BatchNorm sees each part by
    itself."""
    decay_norm_and_bias: bool = False
    """Whether weight decay also shrinks biases and the scales of norms, as plain torch optimizers do."""
    ema: EMA | None = None
    """Exponential moving average of the parameters, evaluated in their place; None: none."""
    swa: SWA | None = None
    """Equal average of the parameters of epochs, evaluated in their place; None: none."""
    lookahead: Lookahead | None = None
    """Slow parameters that follow the optimizer's, evaluated in their place; None: none."""
    sam_radius: NonNegative = 0.0
    """Radius of sharpness-aware minimization (Foret et al. 2021); 0: off. Doubles the cost of a step."""
