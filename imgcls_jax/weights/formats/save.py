"""Writers of state dicts: torch's zip format, without torch, and safetensors."""

import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import safetensors.numpy

from imgcls_jax.errors import UserError
from imgcls_jax.weights.formats.unpickle import STORAGE_DTYPES

_STORAGES = {dtype: name.removeprefix("torch.") for name, dtype in STORAGE_DTYPES.items()}
_LOCAL_HEADER_SIZE = 30  # bytes before a record's name in a zip archive
_ALIGNMENT = 64  # bytes; torch aligns its storages so that they can be memory-mapped


def save_safetensors(state: Mapping[str, np.ndarray], path: str | Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors, bit for bit; the file appears under its name only when complete.

    `texts`: further entries of its metadata.
    """
    about = {"format": "pt", **(texts or {})}
    arrays = {name: _little_endian(array) for name, array in state.items()}
    _atomically(Path(path), lambda file: safetensors.numpy.save_file(arrays, file, metadata=about))


def save_pth(state: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write a state dict as `torch.save` does, bit for bit, so that `torch.load(path, weights_only=True)` reads it.

    The same state dict gives the same bytes. The file appears under its name only when complete.

    Raises:
        UserError: an array of a type that torch has no storage for.
    """
    arrays = {name: _little_endian(array) for name, array in state.items()}
    for name, array in arrays.items():
        if array.dtype not in _STORAGES:
            raise UserError(f"{name} is {array.dtype}, which a torch file cannot hold: convert it first.")

    def write(path: Path) -> None:
        with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _record(archive, file, "data.pkl", _pickle(arrays))
            _record(archive, file, "byteorder", b"little")
            for index, array in enumerate(arrays.values()):
                _record(archive, file, f"data/{index}", array.tobytes())
            _record(archive, file, "version", b"3\n")

    _atomically(Path(path), write)


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)


def _atomically(path: Path, write: Callable[[Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        write(partial)
        # mkstemp makes private files; give the result the permissions of any other new file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _record(archive: zipfile.ZipFile, file: IO[bytes], name: str, content: bytes) -> None:
    """Append a record whose content starts at a multiple of the alignment, padded in its extra field as torch does."""
    info = zipfile.ZipInfo(f"archive/{name}", date_time=(1980, 1, 1, 0, 0, 0))
    start = file.tell() + _LOCAL_HEADER_SIZE + len(info.filename)
    padding = -(start + 4) % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, content)


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The program that rebuilds the state dict, protocol 2, opcode by opcode: `pickle` itself would have to import
    torch to name its functions."""
    out = bytearray(b"\x80\x02")  # PROTO 2
    out += b"ccollections\nOrderedDict\n)R("  # GLOBAL, EMPTY_TUPLE, REDUCE, MARK
    for index, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        out += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        out += b"(" + _text("storage") + f"ctorch\n{_STORAGES[array.dtype]}\n".encode() + _text(str(index))
        out += _text("cpu") + _integer(array.size) + b"tQ"  # TUPLE, BINPERSID
        out += _integer(0) + _tuple(array.shape) + _tuple(strides)
        out += b"\x89ccollections\nOrderedDict\n)RtR"  # requires_grad NEWFALSE, no hooks, TUPLE, REDUCE
    out += b"u."  # SETITEMS, STOP
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data  # BINUNICODE


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)  # BININT
    return b"\x8a\x08" + struct.pack("<q", value)  # LONG1


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
