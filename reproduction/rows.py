"""The table of all experiments: which config runs each, and what its report states.

Accuracies are the reports' own; where a report and the program that its author ran differ, both figures are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imgcls_jax.display.console import percent
from imgcls_jax.errors import UserError

Kind = Literal["train", "validation", "best validation", "test", "distorted test", "unstated split"]
"""On which images: the training, validation or test split, after the last epoch; the best validation accuracy of all
epochs; CIFAR-100-C's distorted test images; or the report does not say."""


@dataclass(frozen=True)
class Reported:
    """One figure of a report."""

    value: float | str
    """Accuracy in [0, 1]; in words where the report gives no number, such as "about 70 %"."""
    kind: Kind
    """What the report calls it."""
    ours: Kind | None = None
    """Which of our figures is its like, where that is another one; see `note` of the row."""
    note: str = ""
    """Such as "as run": the figure of the author's program rather than of the report's text."""

    @property
    def like(self) -> Kind:
        """Which of our figures to put beside it."""
        return self.ours or self.kind

    @property
    def text(self) -> str:
        """Such as "59.27 %"."""
        return percent(self.value) if isinstance(self.value, float) else self.value

    @property
    def name(self) -> str:
        """Such as "best validation, as run"."""
        like = f" (ours: {self.like})" if self.like != self.kind else ""
        return f"{self.kind}{like}" + (f", {self.note}" if self.note else "")


@dataclass(frozen=True)
class Row:
    """One experiment."""

    id: str
    """The report's letter, the experiment's number, and after a hyphen what is special."""
    config: str | None
    """FILE.py[:VARIANT] below configs/; None: nothing is trained."""
    what: str
    """In a few words."""
    reported: tuple[Reported, ...] = ()
    """What the report states; nothing where it states nothing."""
    starts_from: str | None = None
    """The row whose run gives the initial parameters."""
    note: str = ""
    """What must be known to compare."""

    @property
    def spec(self) -> str | None:
        """The config as commands take it, from the repository's root."""
        return None if self.config is None else f"configs/{self.config}"


def _best(report: float | None, as_run: float | None = None) -> tuple[Reported, ...]:
    """Best validation accuracies: the report's, and that of its author's program."""
    stated = () if report is None else (Reported(report, "best validation"),)
    return stated if as_run is None else (*stated, Reported(as_run, "best validation", note="as run"))


def _val_folder(value: float | str) -> tuple[Reported, ...]:
    """A test accuracy on Imagenette's val folder, which our configs read as the validation split."""
    return (Reported(value, "test", ours="validation"),)


_SKETCH = "ImageNet-Sketch, 500 classes"
_DOGS_AS_RUN = "the author's program left the hidden layer random"
_VAL_IS_TEST = (
    "The report's test set is Imagenette's val folder: ours is its accuracy after the last epoch, chosen by none."
)

ROWS = (
    # ---- A: ImageNet-Sketch
    Row("A1", "sketch_cnn.py:baseline", f"{_SKETCH}: three convolutions", (Reported("below 10 %", "unstated split"),)),
    Row(
        "A2",
        "sketch_cnn.py",
        f"{_SKETCH}: five convolutions",
        (Reported("above 96 %", "train"), Reported("about 50 %", "validation")),
    ),
    Row(
        "A3",
        "sketch_cnn.py:bn",
        "A2 with BatchNorm and augmentation",
        (Reported("about 95 %", "train"), Reported(0.63, "validation")),
    ),
    Row("A4", "sketch_dinov2.py", f"{_SKETCH}: DINOv2 ViT-S/14", (Reported("50 to 60 %", "validation"),)),
    Row("A5", "sketch_r50.py", f"{_SKETCH}: ResNet-50 from ImageNet", (Reported("about 70 %", "unstated split"),)),
    # ---- B: CIFAR-100
    Row("B1", "cifar100_cnn.py", "CIFAR-100: three convolutions", (Reported(0.16158, "distorted test"),)),
    Row("B2", "cifar100_r18.py", "CIFAR-100: ResNet-18 from scratch", (Reported(0.30093, "distorted test"),)),
    Row(
        "B3",
        "cifar100_r50.py",
        "CIFAR-100: ResNet-50 from ImageNet",
        (
            Reported("about 70 %", "train"),
            Reported("about 75 %", "validation"),
            Reported(0.57876, "distorted test"),
        ),
    ),
    Row("B3-as-run", "cifar100_r50.py:as_run", "B3 as its author's program ran"),
    # ---- C: CIFAR-10
    Row("C1", "cifar10_lenet.py", "CIFAR-10: convolutions of 10 and 20 channels", _best(0.5927, 0.6026)),
    Row(
        "C1q",
        "cifar10_lenet.py:no_validation",
        "C1 without a validation split, 50 epochs",
        (Reported(0.6201, "test", note="best of 50 epochs, the 10th"),),
        note="The report's figure is the best of 50 looks at the test set; ours is one look, after the last epoch.",
    ),
    Row("C2", "cifar10_lenet.py:narrow", "C1 with 6 and 16 channels", _best(0.5466, 0.5686)),
    Row("C3", "cifar10_lenet.py:wide", "C1 with 32 and 64 channels", _best(0.6581, 0.681)),
    Row("C4", "cifar10_cnn.py:three_convs", "CIFAR-10: three convolutions", _best(None, 0.5726)),
    Row("C5", "cifar10_cnn.py:plain", "CIFAR-10: six convolutions", _best(0.6918, 0.6924)),
    Row("C6", "cifar10_squeezenet.py", "CIFAR-10: SqueezeNet from ImageNet, fine-tuned sensibly"),
    Row(
        "C6-as-run",
        "cifar10_squeezenet.py:as_run",
        "SqueezeNet at learning rate 0.01",
        (Reported(0.10, "validation"),),
        note="The report's loss was NaN; a loss that is not finite stops a run here, and its flight record says where "
        "it began.",
    ),
    Row("C6-tiny-rate", "cifar10_squeezenet.py:tiny_rate", "SqueezeNet at learning rate 1e-8", _best(0.1785)),
    Row("C7", "cifar10_cnn.py:flips", "C5 with flips and rotation", _best(None, 0.7158)),
    Row("C8", "cifar10_cnn.py:large_batch", "C7 with batch 128 and an exponential schedule", _best(None, 0.7986)),
    Row("C9", "cifar10_cnn.py:dropout", "C8 with dropout", _best(None, 0.8011)),
    Row("C10", "cifar10_cnn.py:as_reported", "C9 with BatchNorm", _best(None, 0.8192)),
    Row("C11", "cifar10_r50.py", "CIFAR-10: ResNet-50 from ImageNet", _best(None, 0.8431)),
    # ---- D: cats, dogs and breeds
    Row(
        "D1a",
        "cats_dogs_cnn.py",
        "cats vs dogs",
        (Reported(0.8770, "train"), Reported(0.8573, "validation"), Reported(0.8657, "best validation")),
    ),
    Row(
        "D1b",
        "stanford_dogs_cnn.py",
        "Stanford Dogs, 120 classes",
        (Reported(0.4284, "train"), Reported(0.1380, "validation")),
    ),
    Row(
        "D2",
        "cats_dogs_cnn.py:from_dogs",
        "D1b's network on cats vs dogs",
        (Reported(0.9621, "train"), Reported(0.8301, "validation"), Reported(0.8375, "best validation")),
        starts_from="D1b",
        note=f"In D2 and D3 {_DOGS_AS_RUN}; the -as-run rows do the same.",
    ),
    Row(
        "D3",
        "cats_dogs_cnn.py:first_convs",
        "D1b's network, output and first two convolutions new, the rest frozen",
        (Reported(0.6708, "train"), Reported(0.6778, "validation"), Reported(0.6816, "best validation")),
        starts_from="D1b",
    ),
    Row(
        "D4",
        "cats_dogs_cnn.py:last_convs",
        "D1b's network, output and last two convolutions new, the rest frozen",
        (Reported(0.8316, "train"), Reported(0.8277, "validation"), Reported(0.8385, "best validation")),
        starts_from="D1b",
    ),
    Row(
        "D2-as-run",
        "cats_dogs_cnn.py:from_dogs_as_run",
        f"D2: {_DOGS_AS_RUN}",
        (Reported(0.9621, "train"), Reported(0.8301, "validation"), Reported(0.8375, "best validation")),
        starts_from="D1b",
    ),
    Row(
        "D3-as-run",
        "cats_dogs_cnn.py:first_convs_as_run",
        f"D3: {_DOGS_AS_RUN}, and froze it",
        (Reported(0.6708, "train"), Reported(0.6778, "validation"), Reported(0.6816, "best validation")),
        starts_from="D1b",
    ),
    # ---- E: Imagenette
    Row("E1", None, "convolution and blur by hand", note="A check rather than a training: it is among the tests."),
    Row("E2-base", "imagenette_cnn.py", "Imagenette: three convolutions", _val_folder(0.5131), note=_VAL_IS_TEST),
    Row("E2-bn", "imagenette_cnn.py:bn", "E2-base with BatchNorm", _val_folder(0.6627)),
    Row("E2-dropout", "imagenette_cnn.py:dropout", "E2-base with dropout", _val_folder(0.6250)),
    Row("E2-aug", "imagenette_cnn.py:aug", "E2-base with augmentation", _val_folder(0.6403)),
    Row("E2-all", "imagenette_cnn.py:all", "E2-base with all three", _val_folder(0.7567)),
    Row("E2-leaky-relu", "imagenette_cnn.py:leaky_relu", "E2-base with LeakyReLU", _val_folder("below ReLU's")),
    Row(
        "E2-sigmoid",
        "imagenette_cnn.py:sigmoid",
        "E2-base with sigmoid and Xavier initialization",
        _val_folder("far below ReLU's"),
    ),
    Row("E2-narrow", "imagenette_cnn.py:narrow", "E2-base with 8, 16 and 32 channels", _val_folder("wider is better")),
    Row("E2-medium", "imagenette_cnn.py:medium", "E2-base with 16, 32 and 64 channels", _val_folder("wider is better")),
    Row("E3", "imagenette_r18.py", "Imagenette: ResNet-18's head, BatchNorm training", _val_folder(0.9796)),
    Row(
        "E3-as-run",
        "imagenette_r18.py:as_run",
        'E3 with BatchNorm "frozen" as its author\'s program did: by parameters only',
        _val_folder(0.9682),
    ),
    Row("E3-frozen-bn", "imagenette_r18.py:frozen_bn", "E3 with BatchNorm frozen, statistics included"),
)
"""Every row, in the order in which they are run: what a row starts from comes before it."""


def select(names: Sequence[str]) -> list[Row]:
    """The rows of these names, in the table's order; all rows where no name is given.

    A name is a row's id, the beginning of several ids up to a hyphen ("E2"), or a report's letter ("C").

    Raises:
      UserError: a name names no row.
    """
    if not names:
        return list(ROWS)
    chosen: set[str] = set()
    for name in names:
        found = [row.id for row in ROWS if row.id == name]
        found = found or [row.id for row in ROWS if row.id.startswith(f"{name}-") or row.id[0] == name]
        if not found:
            raise UserError(f"there is no row {name}: `--list` shows all, from {ROWS[0].id} to {ROWS[-1].id}")
        chosen.update(found)
    return [row for row in ROWS if row.id in chosen]
