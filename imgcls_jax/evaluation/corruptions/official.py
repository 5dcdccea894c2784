"""Read corrupted test sets that were made elsewhere, in the layout of CIFAR-10-C and CIFAR-100-C.

A folder of NAME.npy, uint8 [5 · n, h, w, 3]: n images at severity 1, then the same at severity 2, up to 5. The names
are those of the corruptions, or distortion00, distortion01, …, which tell nothing about the corruption. labels.npy, an
integer for each of the 5 · n rows, or for each of the n images, may be missing: then there is no score, but there are
predictions.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import CORRUPTIONS, SEVERITIES


class Arrays:
    """The arrays of a folder, mapped into memory and read as they are needed."""

    def __init__(self, folder: Path):
        """
        Raises:
          UserError: the folder holds no such arrays, or one of another shape, type or length.
        """
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        self.folder = folder
        found = {file.stem: file for file in folder.glob("*.npy")}
        named = [name for name in CORRUPTIONS if name in found]
        numbered = sorted(name for name in found if re.fullmatch(r"distortion\d\d", name))
        if bool(named) == bool(numbered):
            raise UserError(
                f"{folder} holds both named and numbered arrays: keep one kind"
                if named
                else f"{folder} holds no corrupted images: expected gaussian_noise.npy …, or distortion00.npy …"
            )
        self.names = tuple(named or numbered)
        self._images = {name: _open(found[name]) for name in self.names}
        first = self._images[self.names[0]]
        for name, images in self._images.items():
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % len(SEVERITIES):
                raise UserError(
                    f"{found[name]} must be uint8 [5 · n, h, w, 3], not {images.dtype} {list(images.shape)}"
                )
            if len(images) != len(first):
                raise UserError(f"{found[name]} has {len(images)} rows, but {found[self.names[0]]} has {len(first)}")
        self.count = len(first) // len(SEVERITIES)
        """Images of each corruption and severity."""
        self.labels: Int[np.ndarray, "5 n"] | None = None
        """Class of each image at each severity, where the folder says it."""
        if "labels" in found:
            labels = _open(found["labels"])
            if not np.issubdtype(labels.dtype, np.integer) or labels.shape not in ((len(first),), (self.count,)):
                raise UserError(
                    f"{found['labels']} must be {len(first)} integers, one a row, not {labels.dtype} "
                    f"{list(labels.shape)}"
                )
            self.labels = np.broadcast_to(labels.reshape(-1, self.count), (len(SEVERITIES), self.count))

    def images(self, name: str, severity: int, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m h w 3"]:
        """Read images of one corruption and severity; `rows` are counted from 0."""
        return self._images[name][(severity - 1) * self.count + rows]


def _open(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{file} is not a .npy file of plain numbers: {error}") from error
