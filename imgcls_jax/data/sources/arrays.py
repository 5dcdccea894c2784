"""In-memory arrays, given from Python or in an .npz file."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, UInt, UInt8

from imgcls_jax.config.data import PathText, Source
from imgcls_jax.data.arrays import MOST_CHANNELS
from imgcls_jax.data.examples import Examples, Labels, Progress, Splits
from imgcls_jax.errors import UserError, did_you_mean

SPLITS = ("train", "validation", "test")
KEYS = (*(f"{letter}_{split}" for split in SPLITS for letter in "xy"), "label_names")


class Arrays(Source):
    """In-memory arrays: x_train uint8 or uint16 [N, H, W, C] or [N, H, W], y_train integers [N], and optionally
    x_validation, y_validation, x_test, y_test and label_names. y of 0 and 1 [N, labels] says which labels each image
    has; y of floats, [N] or [N, numbers], are numbers to predict."""

    path: PathText | None = None
    """An .npz file that holds these arrays; None: they are given to `train(arrays=…)`."""

    takes_arrays: ClassVar[bool] = True

    def open(self, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress | None = None) -> Splits:
        """Check the arrays of the file, or those given.

        Raises:
          UserError: a file or key is missing, or an array is of another type, shape or range.
        """
        if (self.path is None) == (arrays is None):
            raise UserError(
                "an Arrays source needs either a path to an .npz file or arrays given to "
                "train(arrays=…), " + ("and has neither" if arrays is None else "not both")
            )
        if self.path is not None:
            title, given = f"the file {self.path}", _read_npz(Path(self.path).expanduser())
        else:
            title, given = "the data in memory", dict(arrays or {})
        if "x_train" not in given:
            raise UserError(f"{title} lacks x_train: {', '.join(KEYS)} are looked for")
        unknown = sorted(set(given) - set(KEYS))
        for key in unknown:
            hint = did_you_mean(key, KEYS)
            if arrays is not None or hint or key.lower().startswith(("x_", "y_")):
                raise UserError(f'"{key}" is not a key of the arrays of {title}{hint}: they are {", ".join(KEYS)}')
        notes = (f"passed over in {title}: {', '.join(unknown)}",) if unknown else ()

        pairs = {
            split: _pair(given, split, title) for split in SPLITS if f"x_{split}" in given or f"y_{split}" in given
        }
        shapes = {split: (labels.shape[1:], labels.dtype) for split, (_, labels) in pairs.items()}
        if other := next((split for split, shape in shapes.items() if shape != shapes["train"]), None):
            raise UserError(f"{title}: y_{other} is of another kind or shape than y_train: give all labels alike")
        vectors = pairs["train"][1].ndim == 2
        most = pairs["train"][1].shape[1] - 1 if vectors else max(int(y.max()) for _, y in pairs.values())
        class_names = _class_names(given.get("label_names"), most, title)
        if vectors and len(class_names) != most + 1:
            raise UserError(f"label_names of {title} has {len(class_names)} names, but y_train has {most + 1} columns")
        if not vectors and (train_most := int(pairs["train"][1].max())) < most:
            raise UserError(
                f"{title}: label {most} occurs in validation or test, but training labels end at {train_most}"
            )
        splits = {name: _examples(name, *pair) for name, pair in pairs.items()}
        return Splits(splits["train"], splits.get("validation"), splits.get("test"), class_names, title, notes)

    def missing(self) -> str | None:
        """Return whether the file is there, without reading it."""
        if self.path is None:
            return "the arrays are given from Python: this config cannot be run by a command"
        return None if Path(self.path).expanduser().is_file() else f"there is no file {self.path}"


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz file of plain arrays: np.savez(x_train=…, y_train=…) writes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            # What is none of the keys is not used, and need not be read.
            return {key: file[key] if key in KEYS else np.empty(0) for key in file.files}
    except Exception as error:  # A damaged or foreign file raises ValueError, BadZipFile, EOFError, AttributeError …
        raise UserError(f"{path} is not an .npz file of plain arrays: {error}") from error


def _pair(given: Mapping[str, np.ndarray], split: str, title: str) -> tuple[UInt[np.ndarray, "n h w c"], Labels]:
    for key in (f"x_{split}", f"y_{split}"):
        if key not in given:
            raise UserError(f"{title} lacks {key}")
    images, labels = np.asarray(given[f"x_{split}"]), np.asarray(given[f"y_{split}"])
    where = f"x_{split} of {title}"
    if images.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{where} must be uint8 (0 … 255) or uint16 (0 … 65535), black to white, not {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] > MOST_CHANNELS:
        raise UserError(
            f"{where} must have the shape [N, H, W] or [N, H, W, C] with 1 to {MOST_CHANNELS} channels, not "
            f"{list(images.shape)}"
            + (": move the channels last" if images.ndim == 4 and images.shape[1] <= MOST_CHANNELS else "")
        )
    if 0 in images.shape:
        raise UserError(f"{where} is empty: its shape is {list(images.shape)}")
    where = f"y_{split} of {title}"
    if labels.ndim in (1, 2) and np.issubdtype(labels.dtype, np.floating):
        return images, _numbers(labels, len(images), where)
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iub":
        return images, _several(labels, len(images), where)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where} must be integers (classes), 0 and 1 per label, or floats (numbers), not {labels.dtype}"
        )
    if labels.shape != images.shape[:1]:
        raise UserError(f"{where} must have the shape [{len(images)}], one label an image, not {list(labels.shape)}")
    if labels.min() < 0:
        raise UserError(f"{where} holds the label {labels.min()}: labels start at 0")
    if labels.max() > 2**20:
        raise UserError(f"{where} holds the label {labels.max()}: labels are class numbers 0, 1, 2, …")
    return images, labels.astype(np.int32)


def _numbers(values: np.ndarray, images: int, where: str) -> Float32[np.ndarray, "n k"]:
    """Numbers to predict, a row per image."""
    if len(values) != images or not values.size:
        raise UserError(f"{where} must have {images} rows, one per image, not {len(values)}")
    if not np.isfinite(values).all():
        raise UserError(f"{where} holds {values[~np.isfinite(values)][0]}: numbers to predict must be finite")
    return values.reshape(images, -1).astype(np.float32)


def _several(labels: np.ndarray, images: int, where: str) -> UInt8[np.ndarray, "n k"]:
    """Which labels each image has."""
    if len(labels) != images:
        raise UserError(f"{where} must have {images} rows, one per image, not {len(labels)}")
    if not np.isin(labels, (0, 1)).all():
        raise UserError(
            f"{where} has the shape {list(labels.shape)}, a column per label, so that its values must be 0 or 1, not "
            f"{labels[~np.isin(labels, (0, 1))][0]}: give class numbers as [{images}], numbers to predict as floats"
        )
    return labels.astype(np.uint8)


def _class_names(label_names: np.ndarray | None, most: int, title: str) -> tuple[str, ...]:
    if label_names is None:
        return tuple(str(i) for i in range(most + 1))
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in np.asarray(label_names).tolist())
    if len(names) <= most:
        raise UserError(f"label_names of {title} has {len(names)} names, but label {most} occurs")
    return names


def _examples(name: str, images: UInt[np.ndarray, "n h w c"], labels: Labels) -> Examples:
    def fingerprint() -> str:
        depth = "" if images.dtype == np.uint8 else f"{images.dtype.str} "
        return f"array {depth}{images.shape} {hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()}"

    return Examples(
        name=name,
        labels=labels,
        ids=[f"x_{name}[{i}]" for i in range(len(labels))],
        fingerprint=fingerprint,
        read=lambda indices: [images[i] for i in indices],
        pixels=images,
    )
