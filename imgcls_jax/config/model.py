"""The root of all networks' settings, and the settings that several networks share."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from imgcls_jax.config.registry import Component, settings
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from flax import nnx
    from jax.typing import DTypeLike

    from imgcls_jax.weights.catalog import Entry
    from imgcls_jax.weights.timm import Counterpart
    from imgcls_jax.weights.torch_names import Rule

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "none"]
Init = Literal["torch", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "lecun_normal"]


class Model(Component, root=True):
    """A network. A subclass states its settings and builds a Flax module from them.

    `build` is all that a subclass must have. The other methods have defaults that suit most networks; override
    `torch_rules` to load torch's weights, and `stage_of` for layer-wise learning rates where the default does not fit.

    A parameter's path is the names of the attributes that lead to it, joined by dots: "layer1.0.conv1.kernel".
    """

    head_prefix: ClassVar[str] = "head."
    """What the paths of the output layers begin with, as opposed to those of the backbone."""
    usual_size: ClassVar[int] = 224
    """Side of the images that the network is published for, pixels."""
    usual_classes: ClassVar[int] = 1000
    """Number of classes that the network is published for."""
    stage_pattern: ClassVar[str] = r"[^.]+(\.\d+)?"
    """Regular expression: what it matches at the beginning of a parameter's path names its stage; see `stage_of`."""

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: "DTypeLike", rngs: "nnx.Rngs"
    ) -> "nnx.Module":
        """Make a freshly initialized network in training mode.

        `model(x, rngs=…)` maps float images [b, h, w, channels] to float32 logits [b, num_classes], or [b, 1] where
        the head has one logit for two classes. `nnx.view(model, deterministic=…, use_running_average=…,
        update_running=…)` sets its modes. A module may also have `stages(x, rngs=…)`, which gives the output of each
        of its stages by name, in order, the logits last. Where stages are tokens [b, tokens, width], the method
        `token_grid(height, width)` of a module gives the rows and columns of the patches, which are the last tokens.

        Args:
          num_classes: number of classes, as `output_classes` gives it.
          channels: channels of the images.
          image_size: height and width of the images, pixels.
          dtype: dtype of the activations; parameters, statistics and logits are float32.
          rngs: source of the initial parameters.

        Raises:
          UserError: the network cannot take such images or classes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method build")

    def output_classes(self, num_classes: int) -> int:
        """Return the number of classes to build the network for, on data of `num_classes`: more only where a
        published output layer is to be kept. Default: as many."""
        return num_classes

    def computed_values(self, images: "Callable[[int], np.ndarray]") -> "Mapping[str, np.ndarray]":
        """Compute initial values that follow from the training images, by path, in place of random ones. Default: none.

        Args:
          images: gives normalized training images, float32 [n, h, w, c], of about this many pixels in all.
        """
        return {}

    def torch_rules(self) -> "Sequence[Rule]":
        """List the pairs of torch's names and ours, by which weights of torch files are loaded and written.

        The first rule that matches a name counts; `imgcls_jax.weights.torch_names.rules` makes them.

        Raises:
          UserError: the network has none.
        """
        raise UserError(
            f"{type(self).__name__} has no table of torch's names, so weights in torch's format can be neither loaded "
            f"nor written: define its method torch_rules"
        )

    def torch_ignores(self, name: str) -> bool:
        """Tell whether a tensor of a torch file has no place here on purpose. Default: no tensor.

        BatchNorm's `num_batches_tracked` is always left out.
        """
        return False

    def in_timm(self) -> "Counterpart | None":
        """Return timm's network that computes the same, for weights of timm's repositories. Default: none."""
        return None

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort paths in the order of the torch network's `parameters()`, the head last.

        Files are written, and `transfer.train_last` counts, in this order. Default: by name, numbers by their value.
        """

        def key(path: str) -> tuple[bool, list[tuple[bool, int, str]]]:
            parts = re.findall(r"\d+|\D+", path)
            return path.startswith(self.head_prefix), [
                (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts
            ]

        return sorted(paths, key=key)

    def torch_peer(self, name: str, *, num_classes: int, image_size: tuple[int, int]) -> Any:
        """Make the torch network that `imgcls parity` compares with. Default: None, for torchvision's of that name.

        Args:
          name: name of the architecture.
          num_classes: number of classes.
          image_size: height and width of the images, pixels.

        Raises:
          ImportError: a package that it needs is not installed.
        """
        return None

    def stage_of(self, path: str) -> str | None:
        """Name the stage that a parameter of the backbone belongs to, for `transfer.layer_decay`.

        Stages follow each other in `torch_order`. None: what comes before the first stage is a stage by itself, what
        comes later belongs to the stage before it. Default: what `stage_pattern` matches, by default the
        module's children, each item of a list by itself.
        """
        found = re.match(self.stage_pattern, path)
        return found[0] if found else None

    @classmethod
    def architectures(cls) -> "Mapping[str, Model]":
        """List the settings of the networks of the literature, by name. Default: none."""
        return {}

    @classmethod
    def published(cls) -> "Sequence[Entry]":
        """List the published weights of the networks in `architectures`. Default: none."""
        return ()


@settings
class Dense:
    """A hidden layer of a head: linear → norm → activation → dropout."""

    features: Positive
    """Width."""
    norm: Literal["batch", "none"] = "none"
    """Normalization after the linear layer; "batch" is BatchNorm1d."""
    activation: Activation = "relu"
    """Function after the normalization."""
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
    """One logit for a two-class task (class 1 against class 0), for binary cross-entropy, in place of one per class."""
