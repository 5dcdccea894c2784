"""What `benchmarks.scaling` measures, each at one size in a process of its own: see `benchmarks.process`."""

import contextlib
import dataclasses
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.process import Answer, CannotRun
from imgcls_jax.plan.process import peak_memory

_T = TypeVar("_T")
_MOST_CLASSES, _FILES_PER_CLASS = 1000, 100
# Canvases of so few pixels, so that ten million fit the disk.
_SIDE = 2


def _measured(function: Callable[[], _T]) -> tuple[_T, Answer]:
    """Call it once: seconds of the clock, of the processor, and bytes of memory beyond those held before."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held, started, used = _memory(), time.perf_counter(), time.process_time()
    made = function()
    return made, {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "bytes": max(peak_memory() - held, 0),
    }


def _memory() -> int:
    """Resident bytes of this process now."""
    found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


# ---- the index of a data set ----------------------------------------------------------------------------------------


def index(*, what: str, entries: int) -> Iterator[Answer]:
    """One job of the bookkeeping for `entries` images: a name of `JOBS`."""
    with contextlib.ExitStack() as held:
        job = JOBS[what](entries, held)
        yield _measured(job)[1]


def _labels(entries: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(entries).astype(np.int32) % max(min(_MOST_CLASSES, entries // 10), 2)


def _order(entries: int, _: contextlib.ExitStack) -> Callable[[], object]:
    from imgcls_jax.data import order

    return lambda: order.epoch_order(0, 1, entries)


def _balanced(entries: int, _: contextlib.ExitStack) -> Callable[[], object]:
    from imgcls_jax.data import order

    labels = _labels(entries)
    return lambda: order.balanced_order(labels, 0, 1)


def _held_out(entries: int, _: contextlib.ExitStack) -> Callable[[], object]:
    from imgcls_jax.data import split

    labels = _labels(entries)
    return lambda: split.hold_out(labels, 0.1, 0, [str(i) for i in range(_MOST_CLASSES)], "validation")


def _hash(entries: int, _: contextlib.ExitStack) -> Callable[[], object]:
    from imgcls_jax.data import split
    from imgcls_jax.data.ids import RecordIds

    ids, labels = RecordIds([("train.array_record", 0, entries)]), _labels(entries)
    content = np.arange(entries, dtype=np.uint64)
    return lambda: split.split_hash({"train": (ids, labels, content)})


def _cached(entries: int, held: contextlib.ExitStack) -> Callable[[], object]:
    """The canvas cache of images that were decoded before is found and opened."""
    from imgcls_jax import config as c
    from imgcls_jax.data import cache, examples, ids

    folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
    canvas = c.Canvas(_SIDE, _SIDE)

    def decode(_: Any) -> Any:
        raise AssertionError("the canvases are there")

    names = ids.RecordIds([("train.array_record", 0, entries)])
    images = examples.Examples("train", np.zeros(entries, np.int32), names, lambda: "fingerprint", decode)
    settings: dict[str, Any] = {"folder": folder, "limit": 2**40, "encoding": "webp", "workers": 0}

    def write(_: Any, __: Any, ___: Any, ____: Any, writer: Any) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        nothing = memoryview(bytes(canvas.nbytes))
        for _ in range(entries):
            writer.write(nothing)
        return np.ones(entries, np.float32), np.arange(entries, dtype=np.uint64), {}

    decoding, cache._decode_all = cache._decode_all, write
    cache.make_canvases(images, canvas, **settings)
    cache._decode_all = decoding
    return lambda: cache.make_canvases(images, canvas, **settings)


def _evaluated(entries: int, _: contextlib.ExitStack) -> Callable[[], object]:
    """The figures of each class and overall, from the outputs for ten classes."""
    import sklearn.metrics  # noqa: F401 - so that it is not measured

    from imgcls_jax.evaluation import per_class, scores
    from imgcls_jax.evaluation.predictions import Predictions

    random = np.random.default_rng(0)
    labels = random.integers(0, 10, entries).astype(np.int32)
    logits = random.random((entries, 10), np.float32)
    made = Predictions(logits, labels, ("image",) * entries, tuple("0123456789"), "test")
    return lambda: (per_class.rows(made), scores.of(made, ranked=False))


JOBS: dict[str, Callable[[int, contextlib.ExitStack], Callable[[], object]]] = {
    "order": _order,
    "balanced": _balanced,
    "split": _held_out,
    "hash": _hash,
    "cache": _cached,
    "evaluation": _evaluated,
}


def classes_evaluated(*, classes: int, images: int) -> Iterator[Answer]:
    """What a run writes at its end of each class: the table, and the confusion matrix as a picture."""
    from imgcls_jax.evaluation import per_class
    from imgcls_jax.evaluation.predictions import Predictions
    from imgcls_jax.report import best_epoch, confusion

    random = np.random.default_rng(0)
    labels = (np.arange(images) % classes).astype(np.int32)
    logits = random.random((images, classes), np.float32)
    logits[np.arange(0, images, 2), labels[::2]] = 2.0
    names = tuple(f"class {i}" for i in range(classes))
    made = Predictions(logits, labels, ("image",) * images, names, "test")
    with tempfile.TemporaryDirectory() as folder:
        # The first picture also imports matplotlib.
        confusion.plot(np.eye(2, dtype=np.int64), ("a", "b"), Path(folder) / "first.png", title="run")

        def write() -> None:
            best_epoch.write_table(per_class.rows(made), Path(folder) / "per_class.csv")
            picture = Path(folder) / "confusion.png"
            confusion.plot_predictions(made.labels, made.predicted, names, picture, title="run")

        yield _measured(write)[1]


# ---- a folder of files ----------------------------------------------------------------------------------------------


def make_folder(folder: Path, files: int) -> int:
    """Make a folder of tiny images, 100 to a class, all of a class links to one file. Return the number of classes."""
    from PIL import Image

    classes = max(files // _FILES_PER_CLASS, 2)
    free = os.statvfs(folder).f_favail
    if 0 < free < 4 * classes:  # a link takes none
        raise CannotRun(f"{folder} has {free:,} free inodes, too few: set TMPDIR to another disk")
    random = np.random.default_rng(0)
    for label in range(classes):
        (inside := folder / f"class_{label:05d}").mkdir()
        first = inside / "image_00000.png"
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(first)
        for number in range(1, files // classes):
            os.link(first, inside / f"image_{number:05d}.png")
    return classes


def listed(*, path: str, cache: str) -> Iterator[Answer]:
    """A folder is listed; it is split; both with each image decoded, which happens once; and again."""
    from imgcls_jax import data
    from imgcls_jax.data import dataset, examples

    settings = _folder_settings(path, cache)
    source, found = _measured(lambda: examples.check(settings.source.open(), "Folder"))
    yield found | {"files": len(source.train), "classes": len(source.class_names)}
    yield _measured(lambda: dataset._split(source, settings))[1]
    del source
    yield _measured(lambda: data.load(settings))[1]
    yield _measured(lambda: data.load(settings))[1]


def started(*, path: str, cache: str) -> Iterator[Answer]:
    """All from a new process to the end of the first training step, the canvases being cached."""
    from benchmarks import ours
    from imgcls_jax import config as c
    from imgcls_jax import data

    settings = _folder_settings(path, cache)

    def start() -> None:
        loaded = data.load(settings)
        plain = ours.config(settings, (), "lenet", 100, "fp32")
        small = c.CNN(convs=(c.Conv(8, 3, padding=1, pool=2),), aggregate="average", head=c.Head())
        trainer = ours._Trainer(dataclasses.replace(plain, model=small), loaded)
        trainer.epoch(first=trainer.run.steps_per_epoch - 1)

    yield _measured(start)[1] | {"cpu_seconds": time.process_time(), "bytes": peak_memory()}


def _folder_settings(path: str, cache: str) -> Any:
    from benchmarks.cifar10 import MEAN, STD
    from imgcls_jax import config as c

    return c.Data(
        source=c.Folder(path),
        canvas=c.Canvas(8, 8),
        image_size=(8, 8),
        mean=MEAN,
        std=STD,
        validation_share=0.1,
        cache_dir=cache,
    )


# ---- training steps -------------------------------------------------------------------------------------------------


def steps(*, size: int, batch: int, classes: int, depth: int, channels: int, steps: int) -> Iterator[Answer]:
    """Training steps of a plain network on resident images: "seconds" of a step, the median of five epochs of `steps`;
    "bytes" that the compiled step says it needs, and the process's peak, "host_bytes"."""
    from benchmarks import ours
    from imgcls_jax import config as c
    from imgcls_jax import data

    settings, arrays = ours.resident_noise(steps * batch, size, classes)
    convs = tuple(c.Conv(channels, 3, padding=1, pool=2 if layer < 2 else 1) for layer in range(depth))
    plain = ours.config(settings, (), "lenet", batch, "fp32")
    network = c.CNN(convs=convs, aggregate="average", head=c.Head())
    trainer = ours._Trainer(dataclasses.replace(plain, model=network), data.load(settings, arrays=arrays))
    trainer.epoch()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        trainer.epoch()
        times.append((time.perf_counter() - started) / steps)
    compiled = trainer.compiled.memory_analysis()
    yield {
        "seconds": statistics.median(times),
        "bytes": compiled.temp_size_in_bytes + compiled.argument_size_in_bytes - arrays["x_train"].nbytes,
        "host_bytes": peak_memory(),
    }
