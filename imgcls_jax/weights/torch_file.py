"""The containers that `torch.save` writes, read without torch: zip archives, and the legacy format before torch 1.6.

Formats: torch/serialization.py (`_save`, `_legacy_save`) and caffe2/serialize/inline_container.h of pytorch.
"""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.errors import UserError
from imgcls_jax.weights import unpickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, lengths of the name and of the extra field

Blocks = Callable[[unpickle.Storage], np.ndarray]
"""From a storage to its whole block, a flat array of the storage's type."""


def load(path: Path) -> Any:
    """What `torch.load(path, weights_only=True)` returns, with numpy arrays in place of tensors.

    Arrays are read-only views of the memory-mapped file, with the tensors' own strides; nothing is copied, and a
    storage that nobody looks at is never read. bfloat16 becomes `ml_dtypes.bfloat16`.

    Raises:
        UserError: no torch checkpoint, a damaged one, or one that asks for more than tensors and plain containers.
    """
    try:
        data = _map(path)
        if data[:4] == b"PK\x03\x04":
            tree, blocks = _open_zip(path, data)
        else:
            tree, blocks = _open_legacy(data)
        return _materialise(tree, blocks)
    except unpickle.PickleError as error:
        raise UserError(
            f"{path} is not read as a torch checkpoint: it {error}. Nothing in it was executed. Get the file anew, or "
            f"save only the weights where it was made: torch.save(model.state_dict(), …)."
        ) from error


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open_zip(path: Path, data: mmap.mmap) -> tuple[Any, Blocks]:
    records = zip_records(path)
    pickles = [name for name in records if name.split("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise unpickle.PickleError("has no record data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in records:
        raise unpickle.PickleError("is a TorchScript program, not a checkpoint")

    def record(name: str) -> memoryview:
        if root + name not in records:
            raise unpickle.PickleError(f"lacks its record {name}")
        info = records[root + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise unpickle.PickleError(f"has a compressed record {name}, which torch does not write")
        # The central directory gives the local header, whose name and extra field may differ in length from its own.
        header = data[info.header_offset : info.header_offset + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise unpickle.PickleError(f"is damaged at its record {name}")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if start + info.file_size > len(data):
            raise unpickle.PickleError(f"is cut short at its record {name}")
        return memoryview(data)[start : start + info.file_size]

    order = bytes(record("byteorder")) if f"{root}byteorder" in records else b"little"
    if order not in (b"little", b"big"):
        raise unpickle.PickleError(f"has an unknown byte order {order[:10]!r}")

    def block(storage: unpickle.Storage) -> np.ndarray:
        content = record(f"data/{storage.key}")
        needed = storage.size * storage.dtype.itemsize
        if len(content) < needed:
            raise unpickle.PickleError(f"has {len(content)} bytes in data/{storage.key} where {needed} are needed")
        array = np.frombuffer(content, storage.dtype, storage.size)
        return array if order == b"little" or storage.dtype.itemsize == 1 else _swapped(array)

    return unpickle.load(io.BytesIO(record("data.pkl"))), block


def zip_records(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The contents of a zip archive by name.

    Raises:
        PickleError: the archive is damaged or truncated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise unpickle.PickleError(f"is a damaged or truncated zip archive ({error})") from error


def _swapped(array: np.ndarray) -> np.ndarray:
    """Exchange the bytes of each element (of each half of a complex one)."""
    size = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
    return array.view(f"u{size}").byteswap().view(array.dtype)


def _open_legacy(data: mmap.mmap) -> tuple[Any, Blocks]:
    # Five pickles one behind the other (magic number, protocol, system, the object, keys of its storages), then the
    # storages in that order, each behind its length, always little-endian.
    if data[:1] != b"\x80":
        raise unpickle.PickleError("starts like no checkpoint")
    data.seek(0)
    if unpickle.load(data) != _LEGACY_MAGIC:
        raise unpickle.PickleError("is a pickle of another program")
    if (protocol := unpickle.load(data)) != _LEGACY_PROTOCOL:
        raise unpickle.PickleError(f"has the unknown version {protocol}")
    unpickle.load(data)
    tree = unpickle.load(data)
    keys = unpickle.load(data)
    if not isinstance(keys, list):
        raise unpickle.PickleError("lacks its list of storages")
    known: dict[str, unpickle.Storage] = {}
    _walk(tree, lambda tensor: known.setdefault(tensor.storage.key, tensor.storage))

    starts: dict[str, int] = {}
    position = data.tell()
    for key in map(str, keys):
        if key not in known:
            raise unpickle.PickleError(f"holds a storage {key} that belongs to no tensor")
        storage = known[key]
        if data[position : position + 8] != struct.pack("<q", storage.block):
            raise unpickle.PickleError(f"is damaged or cut short at storage {key}")
        starts[key] = position + 8
        position += 8 + storage.block * storage.dtype.itemsize
    if position > len(data):
        raise unpickle.PickleError(f"is cut short: {position} bytes expected, {len(data)} found")

    def block(storage: unpickle.Storage) -> np.ndarray:
        if storage.key not in starts:
            raise unpickle.PickleError(f"lacks its storage {storage.key}")
        start = starts[storage.key] + storage.offset * storage.dtype.itemsize
        return np.frombuffer(data, storage.dtype, storage.size, start)

    return tree, block


def _materialise(tree: Any, blocks: Blocks) -> Any:
    def array(tensor: unpickle.Tensor) -> np.ndarray:
        flat = blocks(tensor.storage).view(tensor.dtype)
        if not math.prod(tensor.shape):
            return np.empty(tensor.shape, tensor.dtype)
        strides = tuple(stride * tensor.dtype.itemsize for stride in tensor.strides)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)

    return _walk(tree, array)


def _walk(tree: Any, function: Callable[[unpickle.Tensor], Any], depth: int = 0) -> Any:
    """A copy of the containers with `function` applied to each tensor."""
    if depth > 50:
        raise unpickle.PickleError("is nested more than 50 deep")
    match tree:
        case unpickle.Tensor():
            return function(tree)
        case dict():
            return {key: _walk(value, function, depth + 1) for key, value in tree.items()}
        case list() | tuple():
            return type(tree)(_walk(value, function, depth + 1) for value in tree)
        case unpickle.Global():
            return tree.name
        case _:
            return tree
