"""The canvas cache: what is in it, when it is used, and what happens to a damaged one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import cache, files
from imgcls_jax.data.cache import make_canvases
from imgcls_jax.data.image_formats import KNOWN
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.errors import UserError

CANVAS = Canvas(10, 12, fit="stretch")
LARGE = 2**30


class Counter:
    """Progress that counts the images decoded."""

    def __init__(self):
        self.calls = []

    def __call__(self, label: str, done: int, total: int | None) -> None:
        self.calls.append((label, done, total))


def canvases(root: Path, folder: Path, limit: int = LARGE, canvas: Canvas = CANVAS, encoding: str = "webp"):
    counter = Counter()
    examples = Folder(str(root)).open().train
    made = make_canvases(
        examples, canvas, folder=folder, limit=limit, encoding=encoding, workers=2, on_progress=counter
    )
    return made, counter.calls


def expected(root: Path) -> np.ndarray:
    files = sorted((root / "train").rglob("*.png"))
    return np.stack([np.asarray(Image.open(f).resize((12, 10), Image.Resampling.BILINEAR)) for f in files])


def entry_of(folder: Path) -> Path:
    """The one entry of a cache."""
    (entry,) = [path for path in folder.glob("train-*") if path.is_dir()]
    return entry


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Twelve smooth PNGs in the layout of `pets`: unlike noise they are shorter encoded than as they are."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(12):
        path = root / "train" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return root


PHOTOGRAPH = Canvas(64, 64)
RAW = 12 * 64 * 64 * 3
"""Bytes of the photographs' canvases as they are."""


def photographs_pixels(photographs: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(f)) for f in sorted((photographs / "train").rglob("*.png"))])


@pytest.mark.parametrize(
    ("limit", "storage"),
    [(LARGE, "cached as they are"), (1, "decoded in every epoch"), (0, "decoded in every epoch")],
)
def test_canvases_are_pillows_whether_stored_or_not(pets, tmp_path, limit, storage):
    made, _ = canvases(pets, tmp_path, limit)
    assert (made.stored is not None) == (limit == LARGE)
    assert made.storage == storage
    np.testing.assert_array_equal(made.read(np.array([9, 0, 0, 4])), expected(pets)[[9, 0, 0, 4]])
    with pytest.raises(IndexError):
        made.read(np.array([0, 10]))
    np.testing.assert_allclose(made.aspect, 1.2)
    assert made.bad == {}


def test_progress_covers_every_image(pets, tmp_path, monkeypatch):
    _, calls = canvases(pets, tmp_path, canvas=Canvas(1024, 1024))  # Two canvases a task.
    assert [done for _, done, _ in calls] == [2, 4, 6, 8, 10]
    assert {(label, total) for label, _, total in calls} == {("decoding the train images", 10)}


@pytest.mark.parametrize("channels", [1, 3])
def test_more_than_the_limit_is_stored_without_a_loss(photographs, tmp_path, channels):
    canvas = Canvas(64, 64, channels)
    limit = RAW // 3 * channels - 1
    raw = canvases(photographs, tmp_path, canvas=canvas)[0].read(np.arange(12))
    made, calls = canvases(photographs, tmp_path, limit, canvas)
    assert calls
    assert made.stored is None
    assert made.storage == "cached as lossless WebP"
    np.testing.assert_array_equal(made.read(np.array([11, 0, 5])), raw[[11, 0, 5]])
    with pytest.raises(IndexError):
        made.read(np.array([12]))
    again, calls = canvases(photographs, tmp_path, limit, canvas)
    assert calls == []
    np.testing.assert_array_equal(again.read(np.arange(12)), raw)


def test_more_than_the_limit_as_jpeg(photographs, tmp_path):
    made, _ = canvases(photographs, tmp_path, RAW - 1, PHOTOGRAPH, "jpeg")
    assert made.storage == "cached as JPEG"
    difference = np.abs(made.read(np.arange(12)).astype(int) - photographs_pixels(photographs))
    assert 0 < difference.mean() < 1


def test_encoding_may_be_switched_off(photographs, tmp_path):
    made, _ = canvases(photographs, tmp_path, RAW - 1, PHOTOGRAPH, "none")
    assert made.storage == "decoded in every epoch"
    assert not canvases(photographs, tmp_path, RAW - 1, PHOTOGRAPH, "none")[1]


def test_limit_counts_the_encoded_bytes(photographs, tmp_path):
    """Too many of them leave no file, which is remembered until the limit is raised."""
    canvases(photographs, tmp_path, RAW - 1, PHOTOGRAPH)
    encoded = (entry_of(tmp_path) / "images.bin").stat().st_size
    assert encoded < RAW / 2
    less = tmp_path / "less"
    for limit, decodes, kept in [(encoded - 1, True, False), (encoded - 1, False, False), (encoded, True, True)]:
        made, calls = canvases(photographs, less, limit, PHOTOGRAPH)
        assert bool(calls) == decodes
        assert (entry_of(less) / "images.bin").exists() == (made.storage == "cached as lossless WebP") == kept
        np.testing.assert_array_equal(made.read(np.arange(12)), photographs_pixels(photographs))


def test_damage_that_no_sample_shows_is_found_when_it_is_read(photographs, tmp_path):
    made, _ = canvases(photographs, tmp_path, RAW - 1, PHOTOGRAPH)
    with open(entry_of(tmp_path) / "images.bin", "r+b") as file:
        file.write(b"?" * 40)
    message = f"^the canvas cache {entry_of(tmp_path)} is damaged .image 0: .*: delete this folder; it is made again$"
    with pytest.raises(UserError, match=message):
        made.read(np.array([3, 0]))


@pytest.mark.parametrize("limit", [LARGE, 1])
def test_second_time_decodes_nothing(pets, tmp_path, limit):
    (pets / "train" / "cat" / "2.png").write_bytes(b"")
    first, _ = canvases(pets, tmp_path, limit)
    second, calls = canvases(pets, tmp_path, limit)
    assert calls == []
    assert first.bad == second.bad == {2: "the file is empty (0 bytes)"}
    np.testing.assert_array_equal(first.aspect, second.aspect)


def test_no_cache_leaves_no_file(pets, tmp_path):
    canvases(pets, tmp_path / "cache", limit=0)
    assert not (tmp_path / "cache").exists()


def test_limit_counts_the_canvases_bytes(pets, tmp_path):
    size = 10 * 10 * 12 * 3
    assert canvases(pets, tmp_path, size)[0].stored is not None
    assert canvases(pets, tmp_path, size - 1)[0].stored is None


@pytest.mark.parametrize(
    "other",
    [
        Canvas(10, 12),
        Canvas(10, 12, fit="stretch", interpolation="bicubic"),
        Canvas(10, 12, 1, "stretch"),
        Canvas(10, 12, fit="stretch", jpeg_decoding="reduced"),
    ],
)
def test_another_canvas_is_another_entry(pets, tmp_path, other):
    canvases(pets, tmp_path)
    _, calls = canvases(pets, tmp_path, canvas=other)
    assert calls


def test_changed_file_and_changed_code_are_other_entries(pets, tmp_path, monkeypatch):
    canvases(pets, tmp_path)
    os.utime(pets / "train/cat/0.png", ns=(1, 1))
    assert canvases(pets, tmp_path)[1]
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert canvases(pets, tmp_path)[1]
    assert not canvases(pets, tmp_path)[1]


def test_files_replaced_by_others_of_their_size_and_time_are_read_anew(pets, tmp_path):
    """As `cp -p`, `rsync -t` and unpacking an archive do."""
    path, other = pets / "train/cat/0.png", pets / "train/dog/1.png"
    sizes = [max(path.stat().st_size, other.stat().st_size) for _ in range(2)]
    for file in (path, other):  # what follows a PNG's end is not read
        file.write_bytes(file.read_bytes().ljust(sizes[0], b"\0"))
        os.utime(file, (1_700_000_000, 1_700_000_000))
    before, _ = canvases(pets, tmp_path)
    path.write_bytes(other.read_bytes())
    os.utime(path, (1_700_000_000, 1_700_000_000))
    made, calls = canvases(pets, tmp_path)
    assert calls
    np.testing.assert_array_equal(made.read(np.arange(10)), expected(pets))
    assert (made.read(np.array([0])) != before.read(np.array([0]))).any()


def test_so_are_they_where_the_file_system_gives_all_files_one_time(pets, tmp_path, monkeypatch):
    path, other = pets / "train/cat/0.png", pets / "train/dog/1.png"
    path.write_bytes(path.read_bytes().ljust(2000, b"\0"))
    other.write_bytes(other.read_bytes().ljust(2000, b"\0"))

    def undated(entry):
        return files.ImageFile(os.fspath(entry), os.stat(entry).st_size, 0)

    monkeypatch.setattr(files, "described", undated)
    canvases(pets, tmp_path)
    assert not canvases(pets, tmp_path)[1]
    path.write_bytes(other.read_bytes())
    made, calls = canvases(pets, tmp_path)
    assert calls
    np.testing.assert_array_equal(made.read(np.arange(10)), expected(pets))


def test_the_hash_of_an_image_is_that_of_its_bytes_wherever_it_lies(pets, photographs, tmp_path):
    paths = sorted((pets / "train").rglob("*.png"))
    right = [int.from_bytes(hashlib.blake2b(path.read_bytes(), digest_size=8).digest(), "little") for path in paths]
    for limit in (LARGE, LARGE, 1, 0):  # made, found, and not stored
        assert canvases(pets, tmp_path, limit)[0].content.tolist() == right
    moved = shutil.copytree(pets, tmp_path / "elsewhere")
    assert canvases(moved, tmp_path)[0].content.tolist() == right
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), np.uint8)
    found = []
    for changed in (pixels, pixels, 255 - pixels):
        examples = Arrays().open({"x_train": changed, "y_train": np.array([0, 1, 0, 1])}).train
        for canvas in (CANVAS, Canvas(6, 6)):  # as it is, and resized
            made = make_canvases(examples, canvas, folder=tmp_path, limit=LARGE, encoding="webp", workers=1)
            found.append(made.content.tolist())
    assert found[0] == found[1] == found[2] == found[3] and found[4] == found[5]
    assert not set(found[0]) & set(found[4])


def images(entry: Path) -> Path:
    """The file of its canvases, as they are or encoded."""
    return next(entry.glob("images.*"))


def truncate(entry: Path) -> None:
    os.truncate(images(entry), 2000)


def empty(entry: Path) -> None:
    os.truncate(images(entry), 0)


def overwrite(entry: Path) -> None:
    with open(images(entry), "r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"?" * 40)


def no_images(entry: Path) -> None:
    images(entry).unlink()


def no_record(entry: Path) -> None:
    (entry / "record.json").unlink()


def half_a_record(entry: Path) -> None:
    (entry / "record.json").write_text('{"bad": [')


def foreign_record(entry: Path) -> None:
    (entry / "record.json").write_text("[]")


def short_content(entry: Path) -> None:
    np.save(entry / "content.npy", np.zeros(3, np.uint64))


def no_content(entry: Path) -> None:
    (entry / "content.npy").unlink()


def short_aspect(entry: Path) -> None:
    np.save(entry / "aspect.npy", np.ones(3, np.float32))


def another_shape(entry: Path) -> None:
    np.save(entry / "images.npy", np.zeros((10, 10, 12, 1), np.uint8))


def no_ends(entry: Path) -> None:
    (entry / "ends.npy").unlink()


def foreign_ends(entry: Path) -> None:
    np.save(entry / "ends.npy", np.ones(12))


def fewer_ends(entry: Path) -> None:
    np.save(entry / "ends.npy", np.load(entry / "ends.npy")[:5])


ANY = [
    truncate,
    empty,
    overwrite,
    no_images,
    no_record,
    half_a_record,
    foreign_record,
    short_aspect,
    short_content,
    no_content,
]


@pytest.mark.parametrize(
    ("damage", "encoded"),
    [
        *((damage, False) for damage in [*ANY, another_shape]),
        *((damage, True) for damage in [*ANY, no_ends, foreign_ends, fewer_ends]),
    ],
)
def test_damaged_entry_is_made_anew(pets, photographs, tmp_path, damage, encoded):
    settings = (photographs, tmp_path, RAW - 1, PHOTOGRAPH) if encoded else (pets, tmp_path)
    canvases(*settings)
    damage(entry_of(tmp_path))
    made, calls = canvases(*settings)
    assert calls
    right = photographs_pixels(photographs) if encoded else expected(pets)
    np.testing.assert_array_equal(made.read(np.arange(len(right))), right)
    assert not canvases(*settings)[1]


def test_killed_while_making(pets, tmp_path):
    """What a killed process leaves behind is neither used nor in the way."""
    canvases(pets, tmp_path)
    entry = entry_of(tmp_path)
    entry.rename(f"{entry}.partial")
    os.truncate(f"{entry}.partial/images.npy", 500)
    made, _ = canvases(pets, tmp_path)
    np.testing.assert_array_equal(made.read(np.arange(10)), expected(pets))
    assert entry_of(tmp_path) == entry


def test_interrupted_while_making_leaves_nothing(pets, tmp_path):
    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    examples = Folder(str(pets)).open().train
    with pytest.raises(KeyboardInterrupt):
        make_canvases(examples, CANVAS, folder=tmp_path, limit=LARGE, encoding="webp", workers=2, on_progress=interrupt)
    assert [path for path in tmp_path.iterdir() if path.is_dir() and path != pets] == []


def test_concurrent_processes_make_one_entry(pets, tmp_path):
    program = """
import sys, zlib
from pathlib import Path
import jax
import numpy as np
from imgcls_jax.config.data import Canvas
from imgcls_jax.data.cache import make_canvases
from imgcls_jax.data.image_formats import KNOWN
from imgcls_jax.data.sources.folder import Folder
pets, folder = map(Path, sys.argv[1:])
sys.stdin.readline()
decoded = []
made = make_canvases(
    Folder(str(pets)).open().train, Canvas(10, 12, fit="stretch"), folder=folder, limit=2**30,
    encoding="webp", workers=2, on_progress=lambda *counts: decoded.append(counts),
)
print(len(decoded), zlib.crc32(made.read(np.arange(10)).data))
"""
    command = [sys.executable, "-c", program, str(pets), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    outputs = [run.communicate(timeout=60)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(int(decoded) for decoded, _ in outputs) == [0, 1]
    assert {int(crc) for _, crc in outputs} == {zlib.crc32(expected(pets).data)}


def test_unreadable_becomes_black_and_is_named(pets, tmp_path):
    (pets / "train" / "dog" / "1.png").write_bytes(b"nonsense")
    made, _ = canvases(pets, tmp_path)
    assert made.bad == {7: f"not a {KNOWN} image"}
    assert made.read(np.array([7])).max() == 0


def test_unreadable_is_tried_again(pets, tmp_path):
    """A missing permission is mended without a change of the file, and so of the entry's name."""
    path = pets / "train" / "dog" / "1.png"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(b"!" * len(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert canvases(pets, tmp_path)[0].bad
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    made, _ = canvases(pets, tmp_path)
    assert made.bad == {}
    np.testing.assert_array_equal(made.read(np.array([7])), expected(pets)[[7]])


def test_image_that_breaks_after_the_start(pets, tmp_path):
    made, _ = canvases(pets, tmp_path, limit=1)
    (pets / "train" / "cat" / "3.png").unlink()
    with pytest.raises(
        UserError, match=r"^train/cat/3.png was readable when the run began and no longer is: there is no such file"
    ):
        made.read(np.array([0, 3]))


def test_unwritable_cache(pets, tmp_path):
    (tmp_path / "file").touch()
    message = f"^the canvas cache {tmp_path}/file/cache cannot be written .*: give another folder in data.cache_dir"
    with pytest.raises(UserError, match=message):
        canvases(pets, tmp_path / "file" / "cache")


def test_full_disk(pets, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        canvases(pets, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_array_of_the_canvas_size_is_used_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), np.uint8)
    examples = Arrays().open({"x_train": pixels, "y_train": np.array([0, 1, 0, 1])}).train
    made = make_canvases(examples, CANVAS, folder=tmp_path, limit=LARGE, encoding="webp", workers=1)
    assert made.stored is pixels
    assert list(tmp_path.iterdir()) == []


def test_array_of_another_size_is_resized(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 9), np.uint8)
    examples = Arrays().open({"x_train": pixels, "y_train": np.array([0, 1, 0, 1])}).train
    made = make_canvases(examples, CANVAS, folder=tmp_path, limit=LARGE, encoding="webp", workers=1)
    reference = np.asarray(Image.fromarray(pixels[2]).convert("RGB").resize((12, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(made.read(np.array([2]))[0], reference)


def test_record_is_plain_json(pets, tmp_path):
    canvases(pets, tmp_path)
    assert set(json.loads((entry_of(tmp_path) / "record.json").read_text())) == {"bad", "sample", "more_than"}


@pytest.mark.parametrize("limit", [LARGE, 1])
def test_a_cpu_device_takes_batches_over_without_a_copy(pets, tmp_path, limit):
    made = canvases(pets, tmp_path, limit)[0]
    batch = made.read(np.arange(7))
    held = jax.device_put(batch)
    assert held.unsafe_buffer_pointer() == batch.ctypes.data
