"""Checks of the machine: devices, memory, disks, and whether images come as fast as the step takes them."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from imgcls_jax import data
from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.display.console import size
from imgcls_jax.doctor.findings import Finding, Subject, check, error, warning
from imgcls_jax.parallel import mesh as meshes

_TIGHT = 0.9  # share of the memory from which on little may go wrong
_KEPT = 3  # checkpoints that lie on the disk at once: the newest, the best, and the one being written
_MEASURED = 1.0  # seconds for which reading is timed
_HIDDEN = 1.2  # times the step's need at which reading hides behind it


@check(quick=True)
def devices(subject: Subject) -> Iterator[Finding]:
    """A GPU that is there and not used."""
    nvidia = os.path.exists("/dev/nvidia0")
    chosen = jax.devices() if subject.mesh is None else subject.mesh.devices.flat
    if nvidia and {device.platform for device in chosen} == {"cpu"} and "JAX_PLATFORMS" not in os.environ:
        yield warning(
            "this machine has an NVIDIA GPU, but JAX uses the CPU",
            evidence="/dev/nvidia0 is there, jax.devices() has no GPU",
            fix="pip install 'imgcls_jax[cuda]', or check the driver with nvidia-smi",
        )
    if subject.mesh is not None and subject.config is not None:
        used, there = subject.mesh.size, jax.device_count()
        if used < there and meshes.platform(subject.mesh) != "cpu":
            yield warning(
                f"only {used} of {there} devices are used",
                evidence=f"mesh.devices = {subject.config.mesh.devices}",
                fix="--config.mesh.devices=None uses all",
            )


@check(needs=("step_bytes", "memory_limit"))
def memory(subject: Subject) -> Iterator[Finding]:
    """A step that needs more memory than there is, by the compiler's analysis."""
    need, limit = subject.step_bytes, subject.memory_limit
    if need <= _TIGHT * limit:
        return
    evidence = f"the compiled step and the images take {size(need)} on a device, of {size(limit)}"
    fix = "imgcls tune batch finds what fits; or a larger optim.accumulate, remat, mesh.fsdp"
    if need > limit:
        yield error("the training step does not fit into memory", evidence=evidence, fix=fix)
    else:
        yield warning("the training step barely fits into memory", evidence=evidence, fix=fix)


@check(needs=("workdir", "state_bytes"), quick=True)
def checkpoint_disk(subject: Subject) -> Iterator[Finding]:
    """A disk that cannot take the checkpoints."""
    free = _free(subject.workdir)
    if free >= _KEPT * subject.state_bytes:
        return
    evidence = f"a checkpoint takes {size(subject.state_bytes)}, {subject.workdir} has {size(free)} free"
    fix = "free some space, or give another --workdir"
    if free < subject.state_bytes:
        yield error("the disk has no room for a checkpoint", evidence=evidence, fix=fix)
    else:
        yield warning(f"the disk has no room for {_KEPT} checkpoints at once", evidence=evidence, fix=fix)


@check(needs=("images_to_cache",))
def cache_disk(subject: Subject) -> Iterator[Finding]:
    """A disk that cannot take the canvas cache."""
    settings = subject.settings
    folder = Path(settings.cache_dir).expanduser() if settings.cache_dir else cache_dir() / "canvases"
    canvas = settings.canvas
    need = subject.images_to_cache * canvas.nbytes
    need = min(need, int(settings.cache_gib * 2**30))
    free = _free(folder)
    if need > free:
        yield warning(
            "the disk may have no room for the canvas cache",
            evidence=f"{subject.images_to_cache:,} images take up to {size(need)}, {folder} has {size(free)} free",
            fix="free some space, set data.cache_dir to another disk, or data.cache_gib = 0 to do without",
        )


@check(needs=("dataset", "step_rate"))
def reading_speed(subject: Subject) -> Iterator[Finding]:
    """Images that come more slowly than the step takes them."""
    rate = measure_reading(subject.dataset.train, data.threads(subject.settings.workers))
    if rate < _HIDDEN * subject.step_rate:
        yield warning(
            "the device will wait for images",
            evidence=f"the host reads {rate:,.0f} images per second ({subject.dataset.train.storage}), the step takes "
            f"{subject.step_rate:,.0f}",
            fix="a larger data.cache_gib, a data.cache_dir on a local disk, data.canvas.jpeg_decoding = 'reduced', or "
            "more data.workers",
        )


def measure_reading(split: data.Split, threads: int, batch: int = 64) -> float:
    """Read batches of random images for about a second; return images per second."""
    rng = np.random.default_rng(0)
    images, start = 0, 0.0
    while True:
        order = rng.permutation(np.tile(np.arange(len(split)), -(-batch // len(split))))
        for read in data.train_batches(split, order, batch, threads=threads):
            if not start:  # the first batch also starts the threads
                start = time.perf_counter()
                continue
            images += len(read["label"])
            if (seconds := time.perf_counter() - start) >= _MEASURED:
                return images / seconds


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free
