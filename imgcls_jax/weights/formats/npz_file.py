"""Archives of arrays that `np.savez` writes, with their sizes checked before anything is unpacked."""

import math
import zipfile
from pathlib import Path

import numpy as np

from imgcls_jax.errors import UserError
from imgcls_jax.weights.formats.torch_file import zip_records
from imgcls_jax.weights.formats.unpickle import PickleError

_NUMBERS = "biufc"  # kinds of numpy types: truth values, integers, floats, complex numbers
_MOST_AXES = 32
# Compressed arrays may unpack to this many bytes in all, or to this many times the file's size.
_UNPACKED, _RATIO = 2**30, 20


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds arrays alone."""
    try:
        return all(name.endswith(".npy") for name in zip_records(path))
    except PickleError:
        return False  # the torch reader says what is wrong


def load(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays by name.

    Raises:
        UserError: the archive is damaged, encrypted, or unpacks to far more than its size; or an array is of objects
          or text, or is not of the size that its record has.
    """
    try:
        records = zip_records(path)
        total = sum(info.file_size for info in records.values())
        if total > max(_UNPACKED, _RATIO * path.stat().st_size):
            raise ValueError(f"it unpacks to {total} bytes")
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _array(archive, info) for name, info in records.items()}
    except Exception as error:  # of zipfile, zlib, lzma, numpy: whatever a made-up file brings about
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    raise UserError(f"{path} is not read as an archive of arrays ({problem}): get the file anew.")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{info.filename[:100]} has the unknown version {version}")
        shape, _, dtype = read_header(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"{info.filename[:100]} holds {dtype.name[:100]}, not numbers")
        if len(shape) > _MOST_AXES or size != info.file_size - file.tell():
            raise ValueError(f"{info.filename[:100]} says it has {size} bytes, and has {info.file_size - file.tell()}")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
