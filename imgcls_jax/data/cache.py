"""Decode all images of a split once and cache their canvases on disk, or decode them at each read.

An entry of the cache is a folder that appears complete or not at all: aspect.npy, content.npy, record.json, and,
unless the canvases take more than the limit even when encoded, the files of storage.py.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from filelock import FileLock
from jaxtyping import Float32, Int64, UInt, UInt64
from numpy.typing import DTypeLike

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.canvas import content_aspect, limits
from imgcls_jax.data.canvas import read as read_canvas
from imgcls_jax.data.decode import UnreadableImageError, contents
from imgcls_jax.data.examples import Encoded, Examples, Progress, digest
from imgcls_jax.data.storage import CanvasWriter, EncodedCanvases, open_canvases
from imgcls_jax.errors import UserError
from imgcls_jax.parallel.cores import usable_cores

VERSION = 3
"""Version of the entries' contents. Raise it with every change of decode.py, canvas.py or storage.py that changes a
pixel, so that older entries are not used."""

Read = Callable[[Int64[np.ndarray, " b"]], UInt[np.ndarray, "b h w c"]]
"""Returns the canvases of these indices."""

_Stored = UInt[np.ndarray, "n h w c"] | EncodedCanvases | None
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_SAMPLED = 64


@dataclass(frozen=True)
class Canvases:
    """The canvases of n examples in order, and what was found out while making them."""

    read: Read
    """Thread-safe. Where canvases are stored, that of an unreadable example is black."""
    aspect: Float32[np.ndarray, " n"]
    """Width / height of each original image; see `canvas.content_aspect`."""
    content: UInt64[np.ndarray, " n"]
    """Hash of each encoded image, wherever it lies: of a file's bytes, or of an array's pixels."""
    bad: dict[int, str]
    """Index of each unreadable example, and the reason."""
    stored: UInt[np.ndarray, "n h w c"] | None
    """All canvases as one array, in memory or in a memory-mapped file; None where they are encoded or not stored."""
    storage: str
    """How they are stored, in words."""


def make_canvases(
    examples: Examples,
    canvas: Canvas,
    *,
    folder: Path,
    limit: int,
    encoding: str,
    workers: int,
    on_progress: Progress | None = None,
) -> Canvases:
    """Return the canvases of all `examples`: from the cache if they are there, otherwise by decoding every image once.

    They are stored as they are if that takes at most `limit` bytes, otherwise encoded if that does; otherwise this pass
    only finds the unreadable images, and each read decodes again. Several processes may call this at once: one makes
    the entry, the others wait for it. A damaged entry is made again.

    Args:
      examples: the images.
      canvas: what to make of each.
      folder: folder of the cache's entries; made if missing.
      limit: bytes that the entry's canvases may take; 0: no cache.
      encoding: how canvases are stored that do not fit as they are: "webp" (lossless), "jpeg" or "none" (not stored).
      workers: decoding threads; 0: one per core.
      on_progress: called while decoding, with the images done and the images in all.

    Raises:
      UserError: the folder cannot be written.
    """
    shape = (len(examples), canvas.height, canvas.width, canvas.channels)
    if examples.pixels is not None and examples.pixels.shape == shape and examples.pixels.dtype == canvas.dtype:
        return _of_array(examples.pixels, canvas)
    if limit == 0:
        return _decoding_examples(examples, canvas, workers, *_decode_all(examples, canvas, workers, on_progress, None))

    # WebP and JPEG know no other channels and depths.
    encoding = "raw" if len(examples) * canvas.nbytes <= limit else encoding if canvas.is_picture else "none"
    entry = folder / f"{examples.name}-{_key(examples, canvas, encoding)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            if not _is_sound(entry, shape, canvas.dtype, limit) or _readable_again(entry, examples, canvas):
                _make(entry, examples, canvas, workers, on_progress, encoding, limit)
    except OSError as error:
        raise UserError(
            f"the canvas cache {folder} cannot be written ({error.strerror or error}): give another folder in "
            "data.cache_dir, or switch the cache off with data.cache_gib = 0"
        ) from error
    aspect, content = np.load(entry / "aspect.npy"), np.load(entry / "content.npy")
    bad = {int(i): reason for i, reason in json.loads((entry / "record.json").read_text())["bad"]}
    stored = open_canvases(entry)
    if stored is None:
        return _decoding_examples(examples, canvas, workers, aspect, content, bad)
    if isinstance(stored, EncodedCanvases):
        storage = {"webp": "cached as lossless WebP", "jpeg": "cached as JPEG"}[encoding]
        return Canvases(_decoding_stored(stored, entry, canvas, workers), aspect, content, bad, None, storage)
    return Canvases(lambda indices: _take(stored, indices), aspect, content, bad, stored, "cached as they are")


def threads(workers: int) -> int:
    """Return the number of threads that `Data.workers` asks for: 0 is one per core that this process may use."""
    return workers or usable_cores()


def _of_array(pixels: UInt[np.ndarray, "n h w c"], canvas: Canvas) -> Canvases:
    n, height, width, _ = pixels.shape
    aspect = np.full(n, content_aspect((height, width), canvas), np.float32)
    content = np.array([_hash(one) for one in pixels], np.uint64)
    return Canvases(lambda indices: _take(pixels, indices), aspect, content, {}, pixels, "in memory")


def _take(images: UInt[np.ndarray, "n h w c"], indices: Int64[np.ndarray, " b"]) -> UInt[np.ndarray, "b h w c"]:
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(images):
        raise IndexError(f"there are {len(images)} canvases")
    out = _aligned((len(indices), *images.shape[1:]), images.dtype)
    # np.take, unlike images[indices], lets other threads run while it copies; in its mode "raise" it copies twice.
    return np.take(images, indices, axis=0, out=out, mode="clip")


def _aligned(shape: tuple[int, ...], dtype: DTypeLike) -> UInt[np.ndarray, "b h w c"]:
    """Make an uninitialized array at a multiple of 64 bytes, which JAX's CPU device uses without a copy of its own."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _decoding(
    source: Callable[[list[int]], Iterable[Encoded]],
    canvas: Canvas,
    workers: int,
    mistake: Callable[[int, UnreadableImageError], str],
) -> Read:
    """Make a function that decodes what `source` gives of the indices; `mistake` words an unreadable image."""
    pool = ThreadPoolExecutor(threads(workers), thread_name_prefix="decode")

    def one(index: int, encoded: Encoded) -> UInt[np.ndarray, "h w c"]:
        try:
            return read_canvas(encoded, canvas)[0]
        except UnreadableImageError as error:
            raise UserError(mistake(index, error)) from error

    def read(indices: Int64[np.ndarray, " b"]) -> UInt[np.ndarray, "b h w c"]:
        chosen = indices.tolist()
        out = _aligned((len(chosen), canvas.height, canvas.width, canvas.channels), canvas.dtype)
        for row, pixels in enumerate(pool.map(one, chosen, source(chosen))):
            out[row] = pixels
        return out

    return read


def _decoding_examples(
    examples: Examples,
    canvas: Canvas,
    workers: int,
    aspect: Float32[np.ndarray, " n"],
    content: UInt64[np.ndarray, " n"],
    bad: dict[int, str],
) -> Canvases:
    def mistake(index: int, error: UnreadableImageError) -> str:
        return f"{examples.ids[index]} was readable when the run began and no longer is: {error}"

    read = _decoding(examples.read, canvas, workers, mistake)
    return Canvases(read, aspect, content, bad, None, "decoded in every epoch")


def _decoding_stored(stored: EncodedCanvases, entry: Path, canvas: Canvas, workers: int) -> Read:
    def mistake(index: int, error: UnreadableImageError) -> str:
        return f"the canvas cache {entry} is damaged (image {index}: {error}): delete this folder; it is made again"

    return _decoding(lambda indices: (stored[i] for i in indices), canvas, workers, mistake)


def _key(examples: Examples, canvas: Canvas, encoding: str) -> str:
    # Pillow's version belongs to the key because its filters and JPEG decoder decide the pixels.
    settings = json.dumps([VERSION, PIL.__version__, encoding, dataclasses.asdict(canvas)], sort_keys=True)
    return digest([examples.fingerprint(), settings])[:20]


def _make(
    entry: Path,
    examples: Examples,
    canvas: Canvas,
    workers: int,
    on_progress: Progress | None,
    encoding: str,
    limit: int,
) -> None:
    shutil.rmtree(entry, ignore_errors=True)
    partial = entry.with_name(entry.name + ".partial")  # From a process that died; the lock keeps others out.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        shape = (len(examples), canvas.height, canvas.width, canvas.channels)
        writer = None if encoding == "none" else CanvasWriter(partial, shape, encoding, limit, canvas.dtype)
        with writer or contextlib.nullcontext():
            aspect, content, bad = _decode_all(examples, canvas, workers, on_progress, writer)
            if writer:
                writer.finish()
        np.save(partial / "aspect.npy", aspect)
        np.save(partial / "content.npy", content)
        notes = {
            "bad": sorted(bad.items()),
            "sample": _sample(open_canvases(partial)),
            # Even encoded, the canvases take more bytes than this.
            "more_than": limit if writer and writer.full else None,
        }
        (partial / "record.json").write_text(json.dumps(notes))
        partial.rename(entry)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _decode_all(
    examples: Examples, canvas: Canvas, workers: int, on_progress: Progress | None, writer: CanvasWriter | None
) -> tuple[Float32[np.ndarray, " n"], UInt64[np.ndarray, " n"], dict[int, str]]:
    """Decode all images in order, the canvases going to `writer`; return the aspects, the hashes of the encoded images
    and the unreadable examples."""
    n = len(examples)
    # Images per task: enough to pay for its overhead, not too much memory.
    step = min(64, max(1, 2**23 // canvas.nbytes))
    black = np.zeros((canvas.height, canvas.width, canvas.channels), canvas.dtype)
    aspect, content = np.ones(n, np.float32), np.zeros(n, np.uint64)
    bad: dict[int, str] = {}

    def task(start: int) -> list[memoryview]:
        indices = range(start, min(start + step, n))
        out = []
        for index, encoded in zip(indices, examples.read(indices), strict=True):
            try:
                held = encoded if isinstance(encoded, np.ndarray) else contents(encoded, limits(canvas))
                pixels, aspect[index] = read_canvas(held, canvas)
                content[index] = _hash(held)
            except UnreadableImageError as error:
                pixels, bad[index] = black, str(error)
            out.append(writer.prepare(pixels) if writer else memoryview(b""))
        return out

    done = 0
    with ThreadPoolExecutor(threads(workers), thread_name_prefix="decode") as pool:
        try:
            for prepared in in_order(pool, task, range(0, n, step), ahead=2 * threads(workers)):
                if writer:
                    for one in prepared:
                        writer.write(one)
                done += len(prepared)
                if on_progress is not None:
                    on_progress(f"decoding the {examples.name} images", done, n)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return aspect, content, bad


def _hash(encoded: bytes | np.ndarray) -> int:
    """Compute 64 bits that identify a readable image: the BLAKE2b of its bytes, or of its shape and pixels."""
    total = hashlib.blake2b(digest_size=8)
    if isinstance(encoded, np.ndarray):
        depth = () if encoded.dtype == np.uint8 else (encoded.dtype.str,)
        total.update(repr((*encoded.shape, *depth)).encode())
        total.update(np.ascontiguousarray(encoded).data)
    else:
        total.update(encoded)
    return int.from_bytes(total.digest(), "little")


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """Run `pool.map`, at most `ahead` items ahead of its reader, so that results do not pile up in memory."""
    pending: deque[Future[_Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _is_sound(entry: Path, shape: tuple[int, ...], dtype: str, limit: int) -> bool:
    """Return whether an entry is there and undamaged, and holds canvases if that takes at most `limit` bytes."""
    try:
        notes = json.loads((entry / "record.json").read_text())
        stored = open_canvases(entry)
        return (
            isinstance(notes["bad"], list)
            and np.load(entry / "aspect.npy").shape == np.load(entry / "content.npy").shape == shape[:1]
            and _is_whole(stored, shape, dtype)
            and _sample(stored) == notes["sample"]
            and (notes["more_than"] is None or limit <= notes["more_than"])
        )
    except (OSError, ValueError, EOFError, KeyError, TypeError):  # Missing, truncated or foreign files.
        return False


def _readable_again(entry: Path, examples: Examples, canvas: Canvas) -> bool:
    """Return whether an image that could not be read can be read now, as after a repaired permission or connection."""
    for index, _ in json.loads((entry / "record.json").read_text())["bad"]:
        with contextlib.suppress(UnreadableImageError):
            read_canvas(examples.read([index])[0], canvas)
            return True
    return False


def _is_whole(stored: _Stored, shape: tuple[int, ...], dtype: str) -> bool:
    if isinstance(stored, EncodedCanvases):
        return len(stored) == shape[0]
    return stored is None or (stored.shape == shape and stored.dtype == dtype)


def _sample(stored: _Stored) -> int | None:
    """Compute the CRC-32 of up to 64 canvases, spread evenly from the first to the last: fast for any number."""
    if stored is None:
        return None
    total = 0
    for index in np.unique(np.linspace(0, len(stored) - 1, _SAMPLED).astype(np.int64)).tolist():
        total = zlib.crc32(bytes(stored[index]), total)
    return total
