"""What a trained model predicts for a split, as one file from which every figure can be computed again.

predictions_validation.npz and predictions_test.npz in a work directory, and predictions_train.npz, which `imgcls probe`
and `imgcls tune cv` keep: of each training image by a model that was fitted without it, of the other folds. `np.load`
reads them without this package:

logits       float32 [n, outputs]: one per class, or a single one, for class 1, of a sigmoid head. Averaged test-time
             views give the logarithm of the averaged probabilities.
labels       int32 [n]: the class of each image, a row of `class_names`; uint8 [n, outputs] of several labels per image,
             float32 [n, outputs] of numbers to predict, which the logits then are.
names        str [n]: the file of each image, below the folder of its source, or its record.
class_names  str [classes]
split, views str: "validation", "test" or "train"; "center" or the kind of test-time views.
"""

import dataclasses
import functools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from imgcls_jax.config.optim import Task
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import ranking, tasks

SPLITS = ("train", "validation", "test")
"""Of which there may be predictions; of the first, out of fold."""
# Numbers that are computed at a time.
_PART = 2**22
_FIELDS = ("logits", "labels", "names", "class_names", "split", "views")


Labels = Int32[np.ndarray, " n"] | UInt8[np.ndarray, "n outputs"] | Float32[np.ndarray, "n outputs"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outputs of a model for every image of a split, in the split's order."""

    logits: Float32[np.ndarray, "n outputs"]
    labels: Labels
    names: tuple[str, ...]
    """File or record of each image."""
    class_names: tuple[str, ...]
    """Name of each output: those that are no class of the data are called "output 12"."""
    split: str
    """"validation" or "test"; "train" of predictions out of fold."""
    views: str = "center"
    """How each image was seen: "center", or a kind of test-time views."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> Task:
        """What was learned; all below but `is_finite` and `check_finite` is for classes alone."""
        return tasks.of_labels(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes that can be predicted."""
        return max(self.logits.shape[1], 2)

    @functools.cached_property
    def class_logits(self) -> Float64[np.ndarray, "n classes"]:
        """One logit per class: those of a single sigmoid output z are 0 and z."""
        return self._class_logits(slice(None))

    def _class_logits(self, rows: slice) -> Float64[np.ndarray, "some classes"]:
        tasks.need_classes(self.task, "this figure")
        logits = self.logits[rows].astype(np.float64)
        return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits

    @functools.cached_property
    def log_probabilities(self) -> Float64[np.ndarray, "n classes"]:
        """Natural logarithm of each class's probability."""
        return log_softmax(self.class_logits)

    @functools.cached_property
    def probabilities(self) -> Float64[np.ndarray, "n classes"]:
        """Each class's probability; the rows add up to 1."""
        return np.exp(self.log_probabilities)

    @functools.cached_property
    def predicted(self) -> Int64[np.ndarray, " n"]:
        """The most probable class of each image, the lower of equals."""
        if self.logits.shape[1] == 1:
            return self.class_logits.argmax(axis=1)
        tasks.need_classes(self.task, "this figure")
        return self.logits.argmax(axis=1)  # without a copy in float64

    @functools.cached_property
    def own_probabilities(self) -> Float64[np.ndarray, " n"]:
        """The probability of each image's own class; of some images at a time, as those of all classes may not fit the
        memory."""
        own = np.empty(len(self))
        part = max(_PART // self.classes, 1)
        for start in range(0, len(self), part):
            rows = slice(start, start + part)
            shares = np.exp(log_softmax(self._class_logits(rows)))
            own[rows] = shares[np.arange(len(shares)), self.labels[rows]]
        return own

    @functools.cached_property
    def ranked(self) -> ranking.Ranked:
        """How well each class's probability ranks the images, which takes a sort per class."""
        return ranking.of_classes(self.probabilities, self.labels)

    def take(self, rows: Int64[np.ndarray, " k"]) -> "Predictions":
        """Return those of some images."""
        names = tuple(self.names[row] for row in rows.tolist())
        return dataclasses.replace(self, logits=self.logits[rows], labels=self.labels[rows], names=names)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Whether each image is predicted right."""
        return self.predicted == self.labels

    @functools.cached_property
    def _bad(self) -> Bool[np.ndarray, " n"]:
        # An averaged probability of exactly 0 has the logarithm −∞, which is a valid output beside a finite one.
        valid = np.isfinite(self.logits) | np.isneginf(self.logits)
        return ~valid.all(axis=1) | ~np.isfinite(self.logits).any(axis=1)

    @property
    def is_finite(self) -> bool:
        """Whether every image has valid outputs."""
        return not self._bad.any()

    def check_finite(self) -> None:
        """Raise UserError where an output is NaN or infinite: no figure of confidence would mean anything."""
        if not self.is_finite:
            raise UserError(
                f"the outputs for {self._bad.sum():,} of {len(self):,} {self.split} images are NaN or infinite, the "
                f"first is {self.names[int(self._bad.argmax())]}: the network has diverged, or its precision does not "
                "hold its values"
            )


def out_of_fold(parts: Sequence[Predictions]) -> Predictions:
    """Join the predictions of the held-out images of all folds, which are the training images."""
    logits, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "labels"))
    names = tuple(name for part in parts for name in part.names)
    return Predictions(logits, labels, names, parts[0].class_names, "train", parts[0].views)


def named(class_names: tuple[str, ...], outputs: int) -> tuple[str, ...]:
    """Name every output of a network that may have more of them than there are classes."""
    return *class_names, *(f"output {label}" for label in range(len(class_names), outputs))


def log_softmax(logits: Float64[np.ndarray, "n classes"]) -> Float64[np.ndarray, "n classes"]:
    """Compute the logarithm of the softmax of each row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def path_of(workdir: Path, split: str) -> Path:
    """Return where the predictions of a split are kept."""
    return workdir / f"predictions_{split}.npz"


def kept(workdir: Path) -> list[Path]:
    """Return the files of predictions that there are in a work directory."""
    return [path for split in SPLITS if (path := path_of(workdir, split)).exists()]


def save(predictions: Predictions, path: Path) -> None:
    """Write predictions such that a reader sees the old file or the new one.

    Raises:
      UserError: the file cannot be written.
    """
    with outputs.writing(path, binary=True) as file:
        np.savez_compressed(
            file,
            logits=predictions.logits,
            labels=predictions.labels,
            names=np.array(predictions.names, dtype=str),
            class_names=np.array(predictions.class_names, dtype=str),
            split=np.array(predictions.split),
            views=np.array(predictions.views),
        )


def load(path: Path) -> Predictions:
    """Read predictions.

    Raises:
      UserError: there is no such file, or it is not one that `save` wrote.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}: `imgcls evaluate --workdir {path.parent}` writes it")
    try:
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            found = {name: file[name] for name in _FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged or no file of predictions ({error}): `imgcls evaluate --workdir {path.parent}` "
            "writes it again"
        ) from None
    return Predictions(
        found["logits"],
        found["labels"],
        tuple(found["names"].tolist()),
        tuple(found["class_names"].tolist()),
        str(found["split"]),
        str(found["views"]),
    )
