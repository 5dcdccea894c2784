"""Look at every canvas of a split once: perceptual hashes, small gray copies, and which are of one color."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt, UInt8, UInt64
from PIL import Image

from imgcls_jax import data
from imgcls_jax.display import pictures

Place = tuple[int, int]
"""Number of a split among those of a data set, and number of an image in it."""

THUMBNAIL = 16
"""Side of the small copies, pixels."""

_CHUNK = 512  # canvases that are held at a time
_HASHED = 32  # side of what the hash is computed from
_BANDS = 4  # of 16 bits: two hashes that differ in at most 3 bits share one
_MOST_DIFFERENT_BITS = 3
_LEAST_CORRELATION = 0.985
_LARGEST_BUCKET = 2000


@dataclass(frozen=True)
class Scan:
    """What was seen of n canvases."""

    constant: Bool[np.ndarray, " n"]
    """Whether all pixels of a canvas are the same."""
    hashes: UInt64[np.ndarray, " n"]
    """Perceptual hash: the signs of the lowest 8×8 frequencies against their median, as pHash."""
    thumbnails: UInt8[np.ndarray, "n 16 16"]
    """Gray copies of 16×16 pixels."""


def scan(split: data.Split, on_progress: data.Progress = data.no_progress) -> Scan:
    """Read every canvas of a split once."""
    constant, hashes, thumbnails = [], [], []
    for start in range(0, len(split), _CHUNK):
        canvases = split.read(np.arange(start, min(start + _CHUNK, len(split))))
        flat = canvases.reshape(len(canvases), -1, canvases.shape[-1])
        constant.append((flat.max(1) == flat.min(1)).all(-1))
        gray = _gray(canvases)
        thumbnails.append(np.stack([_resized(image, THUMBNAIL) for image in gray]))
        hashes.append(perceptual_hashes(np.stack([_resized(image, _HASHED) for image in gray])))
        on_progress(f"looking at the {split.name} images", start + len(canvases), len(split))
    return Scan(np.concatenate(constant), np.concatenate(hashes), np.concatenate(thumbnails))


def joined(scans: Sequence[Scan]) -> Scan:
    """Put the scans of several splits behind one another."""
    return Scan(
        np.concatenate([scan.constant for scan in scans]),
        np.concatenate([scan.hashes for scan in scans]),
        np.concatenate([scan.thumbnails for scan in scans]),
    )


def perceptual_hashes(gray: UInt8[np.ndarray, "n h w"]) -> UInt64[np.ndarray, " n"]:
    """Compute pHash of gray images: the 8×8 lowest frequencies of each, 1 where above their median."""
    import scipy.fft  # imported late: it takes a tenth of the time in which a command starts

    low = scipy.fft.dctn(gray.astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(gray), 64)
    low[:, 0] = 0  # the mean brightness says nothing about the content
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def near_pairs(found: Scan) -> Iterator[tuple[int, int]]:
    """Yield the pairs (i, j), i < j, of canvases that are nearly the same: hashes that differ in at most 3 of 64 bits
    and thumbnails whose correlation is at least 0.985. Constant canvases are left out."""
    rows = np.flatnonzero(~found.constant)
    standard = _standardized(found.thumbnails)
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        key = (found.hashes[rows] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(key, kind="stable")
        for bucket in np.split(rows[order], np.flatnonzero(np.diff(key[order])) + 1):
            bucket = np.sort(bucket)[:_LARGEST_BUCKET]
            if len(bucket) < 2:
                continue
            hashes = found.hashes[bucket]
            different = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
            for i, j in zip(*np.nonzero(np.triu(different <= _MOST_DIFFERENT_BITS, 1)), strict=True):
                pair = int(bucket[i]), int(bucket[j])
                if pair not in seen and float(standard[pair[0]] @ standard[pair[1]]) >= _LEAST_CORRELATION:
                    seen.add(pair)
                    yield pair


def can_be_compared(splits: Sequence[data.Split]) -> bool:
    """Whether canvases have enough pixels that different things do not look the same."""
    return all(min(split.canvas.height, split.canvas.width) >= THUMBNAIL for split in splits)


def near_places(
    splits: Sequence[data.Split], scans: Sequence[Scan], same: Sequence[Sequence[Place]]
) -> list[list[Place]]:
    """Return the pairs of images of all splits that are nearly the same, but those within a group of `same`."""
    places = [(number, row) for number, split in enumerate(splits) for row in range(len(split))]
    groups = {place: number for number, group in enumerate(same) for place in group}
    found = ([places[i], places[j]] for i, j in near_pairs(joined(scans)))
    return [pair for pair in found if groups.get(pair[0], -1) != groups.get(pair[1], -2)]


def nearest_labels(
    images: UInt8[np.ndarray, "m h w"], among: UInt8[np.ndarray, "n h w"], labels: np.ndarray
) -> np.ndarray:
    """Return the label of each image's most correlated one in `among`, image i of which is never compared with image i.

    Args:
      images: as many as `among`, perhaps changed.
      among: labeled images.
      labels: [n].
    """
    similarity = _standardized(images) @ _standardized(among).T
    np.fill_diagonal(similarity, -np.inf)
    return labels[similarity.argmax(1)]


def content(image: data.Encoded) -> bytes:
    """Hash an image as its source holds it: the bytes of the file, or shape and pixels; SHA-256."""
    if isinstance(image, Path):
        with open(image, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest()


def same_content(splits: tuple[data.Split, ...], on_progress: data.Progress) -> list[list[Place]]:
    """Group the images of all splits whose content is the same."""
    groups: dict[bytes, list[Place]] = defaultdict(list)
    for number, split in enumerate(splits):
        for start in range(0, len(split), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(split)))
            for row, image in zip(rows.tolist(), split.read_original(rows), strict=True):
                groups[content(image)].append((number, row))
            on_progress(f"comparing the {split.name} images", int(rows[-1]) + 1, len(split))
    return [group for group in groups.values() if len(group) > 1]


def _resized(image: Image.Image, side: int) -> UInt8[np.ndarray, "s s"]:
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _standardized(images: UInt8[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n p"]:
    """Rows of mean 0 and length 1, so that a product of two is their correlation; 0 for a constant image."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def thumbnails(split: data.Split, rows: np.ndarray) -> UInt8[np.ndarray, "n 16 16"]:
    """Make gray copies of 16×16 pixels of some canvases."""
    return np.stack([_resized(image, THUMBNAIL) for image in _gray(split.read(rows))])


def _gray(canvases: UInt[np.ndarray, "n h w c"]) -> list[Image.Image]:
    return [pictures.enlarged(canvas, 1).convert("L") for canvas in canvases]
