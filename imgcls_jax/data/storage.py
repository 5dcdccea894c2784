"""Write and read the files of the cache in which canvases are stored: as they are, or encoded one after another."""

import io
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt, UInt8
from PIL import Image

_FORMATS: dict[str, dict[str, Any]] = {
    # The fastest of the lossless levels; the next one is much slower to write and saves little.
    "webp": {"format": "WEBP", "lossless": True, "method": 0, "quality": 0},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def encode(canvas: UInt[np.ndarray, "h w c"], encoding: str) -> bytes:
    """Encode a canvas as the bytes of an image file, which `canvas.read` decodes.

    WebP has no grayscale, but the luma of equal red, green and blue is the same value again.

    Args:
      canvas: the pixels.
      encoding: "webp" (lossless) or "jpeg".
    """
    file = io.BytesIO()
    Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas).save(file, **_FORMATS[encoding])
    return file.getvalue()


@dataclass(frozen=True)
class EncodedCanvases:
    """Encoded canvases in a memory-mapped file."""

    data: UInt8[np.ndarray, " bytes"]
    ends: Int64[np.ndarray, " n"]
    """Where each canvas ends in `data`, and the next one begins."""

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        """Return the bytes that `encode` gave for this canvas."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} canvases")
        start = self.ends[index - 1] if index else 0
        return self.data[start : self.ends[index]].tobytes()


class CanvasWriter:
    """Writes canvases in order into a folder that `open_canvases` reads. A context manager.

    The files are written from front to back, not through a memory map: a full disk is then an error and not a crash.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], encoding: str, limit: int, dtype: str = "uint8"):
        """Begin a file.

        Args:
          folder: folder of the entry.
          shape: [n, h, w, c] of all canvases.
          encoding: "raw", "webp" or "jpeg".
          limit: if the canvases take more bytes than this, none is kept.
          dtype: "uint8", or "uint16", which is only written "raw".
        """
        self.full = False
        """Whether the canvases take more than `limit` bytes."""
        self._folder, self._encoding, self._limit = folder, encoding, limit
        self._path = folder / ("images.npy" if encoding == "raw" else "images.bin")
        self._file = open(self._path, "wb")  # noqa: SIM115 - closed by `__exit__`
        if encoding == "raw":
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        self._size = 0
        self._ends = array("q")  # a fifth of what a list of numbers takes

    def __enter__(self) -> "CanvasWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def prepare(self, canvas: UInt[np.ndarray, "h w c"]) -> memoryview:
        """Encode a canvas for `write`: the expensive part, which any thread may do."""
        if self._encoding == "raw":
            return np.ascontiguousarray(canvas).data.cast("B")
        return memoryview(b"" if self.full else encode(canvas, self._encoding))

    def write(self, prepared: memoryview) -> None:
        """Write the next canvas."""
        self._size += prepared.nbytes
        self._ends.append(self._size)
        self.full = self.full or self._size > self._limit
        if not self.full:
            self._file.write(prepared)

    def finish(self) -> None:
        """Flush the file to the disk, or remove it if it is larger than `limit` bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.full:
            self._path.unlink()
        elif self._encoding != "raw":
            np.save(self._folder / "ends.npy", np.array(self._ends, np.int64))


def open_canvases(folder: Path) -> UInt[np.ndarray, "n h w c"] | EncodedCanvases | None:
    """Open the canvases of a folder, memory-mapped; None where none were kept.

    Raises:
      OSError, ValueError: the files are damaged.
    """
    if (raw := folder / "images.npy").exists():
        return np.load(raw, mmap_mode="r").view(np.ndarray)
    if (encoded := folder / "images.bin").exists():
        data = np.memmap(encoded, np.uint8, "r").view(np.ndarray)
        return EncodedCanvases(data, np.load(folder / "ends.npy"))
    return None
