"""The containers that `torch.save` writes, read without torch: zip archives, and the legacy format before torch 1.6.

Formats: torch/serialization.py (`_save`, `_legacy_save`) and caffe2/serialize/inline_container.h of pytorch.
"""

import functools
import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.errors import UserError, short
from imgcls_jax.weights.formats import unpickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, lengths of the name and of the extra field
# How many times the file's size its tensors may have together: they may share storages, by tying or by views.
_COPIES = 16

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
        return _materialize(tree, blocks, room=_COPIES * len(data))
    except unpickle.PickleError as error:
        problem = str(error)
    except Exception as error:  # the one boundary: whatever else a made-up file brings about, it is damaged
        problem = f"is damaged ({type(error).__name__}: {str(error)[:200]})"
    raise UserError(
        f"{path} is not read as a torch checkpoint: it {problem}. Nothing in it was executed. Get the file anew, or "
        f"save only the weights where it was made: torch.save(model.state_dict(), …)."
    )


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

    @functools.cache
    def record(name: str) -> memoryview:
        if root + name not in records:
            raise unpickle.PickleError(f"lacks its record {name[:100]}")
        return _content(data, records[root + name])

    order = bytes(record("byteorder")) if f"{root}byteorder" in records else b"little"
    if order not in (b"little", b"big"):
        raise unpickle.PickleError(f"has an unknown byte order {order[:10]!r}")

    @functools.cache
    def block(storage: unpickle.Storage) -> np.ndarray:
        content = record(f"data/{storage.key}")
        needed = storage.size * storage.dtype.itemsize
        if len(content) < needed:
            raise unpickle.PickleError(f"has {len(content)} bytes in data/{storage.key} where {needed} are needed")
        array = np.frombuffer(content, storage.dtype, storage.size)
        return array if order == b"little" or storage.dtype.itemsize == 1 else _swapped(array)

    return unpickle.load(io.BytesIO(record("data.pkl"))), block


def _content(data: mmap.mmap, info: zipfile.ZipInfo) -> memoryview:
    """The bytes of a record that is stored as it is, whose checksum is right."""
    name = info.filename[:100]
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise unpickle.PickleError(f"has a compressed record {name}, which torch does not write")
    # The central directory gives the local header, whose extra field may differ in length from its own.
    header = data[info.header_offset : info.header_offset + _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise unpickle.PickleError(f"is damaged at its record {name}")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if start + info.file_size > len(data):
        raise unpickle.PickleError(f"is cut short at its record {name}")
    content = memoryview(data)[start : start + info.file_size]
    # torch writes 0 where it was told to compute no checksums.
    if info.CRC and zlib.crc32(content) != info.CRC:
        raise unpickle.PickleError(f"is damaged: the checksum of its record {name} is wrong")
    return content


def zip_records(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The contents of a zip archive by name.

    Raises:
        PickleError: the archive is damaged, truncated or encrypted, or its records overlap or share a name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise unpickle.PickleError(f"is a damaged or truncated zip archive ({error})") from error
    by_name = {info.filename: info for info in records}
    if len(by_name) < len(records):
        raise unpickle.PickleError("is a zip archive with two records of one name")
    if any(info.flag_bits & 0x41 for info in records):
        raise unpickle.PickleError("is an encrypted zip archive: decrypt it first")
    end = 0
    for info in sorted(records, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise unpickle.PickleError("is a zip archive whose records overlap")
        end = info.header_offset + _LOCAL_HEADER.size + info.compress_size
    return by_name


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
        raise unpickle.PickleError(f"has the unknown version {short(protocol) if isinstance(protocol, int) else ''}")
    unpickle.load(data)
    tree = unpickle.load(data)
    keys = unpickle.load(data)
    if not isinstance(keys, list):
        raise unpickle.PickleError("lacks its list of storages")
    known: dict[str, unpickle.Storage] = {}

    def note(tensor: unpickle.Tensor) -> None:
        storage, first = tensor.storage, known.setdefault(tensor.storage.key, tensor.storage)
        if (storage.dtype, storage.block) != (first.dtype, first.block):
            raise unpickle.PickleError("is damaged: two tensors disagree on their storage")

    _walk(tree, note)

    starts: dict[str, int] = {}
    position = data.tell()
    for key in keys:
        if not isinstance(key, str) or key not in known or key in starts:
            raise unpickle.PickleError("holds a storage that belongs to no tensor")
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


def _materialize(tree: Any, blocks: Blocks, room: int) -> Any:
    """A copy of the containers with arrays in place of tensors, which have at most `room` bytes together."""
    total = 0

    def count(tensor: unpickle.Tensor) -> None:
        nonlocal total
        total += math.prod(tensor.shape) * tensor.dtype.itemsize

    def array(tensor: unpickle.Tensor) -> np.ndarray:
        flat = blocks(tensor.storage).view(tensor.dtype)
        if not math.prod(tensor.shape):
            return np.empty(tensor.shape, tensor.dtype)
        strides = tuple(stride * tensor.dtype.itemsize for stride in tensor.strides)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)

    _walk(tree, count)
    if total > room:
        raise unpickle.PickleError(f"holds tensors of {total} bytes, more than {_COPIES} times its own size")
    return _walk(tree, array)


def _walk(tree: Any, function: Callable[[unpickle.Tensor], Any]) -> Any:
    """A copy of the containers with `function` applied to each tensor; what is shared is visited once."""
    done: dict[int, Any] = {}
    inside: set[int] = set()

    def visit(node: Any) -> Any:
        if isinstance(node, unpickle.Global):
            return node.name
        if not isinstance(node, unpickle.Tensor | dict | list | tuple):
            return node
        if id(node) in done:
            return done[id(node)]
        if id(node) in inside or len(inside) > 50:
            raise unpickle.PickleError("is nested more than 50 deep, or in itself")
        inside.add(id(node))
        match node:
            case unpickle.Tensor():
                result = function(node)
            case dict():
                result = {key: visit(value) for key, value in node.items()}
            case _:
                result = type(node)(visit(value) for value in node)
        inside.remove(id(node))
        done[id(node)] = result
        return result

    return visit(tree)
