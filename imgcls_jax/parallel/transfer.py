"""How images get from the host to the devices: all at once, or batch by batch ahead of the step."""

import collections
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from imgcls_jax.parallel import mesh as meshes

Batch = dict[str, Any]

# Share of a device's memory that resident images may take; the rest is for the model and its activations.
_RESIDENT_SHARE = 0.4
_BATCHES_AHEAD = 2


def is_resident(feed: str, splits: Sequence[Any], mesh: Mesh) -> bool:
    """Whether the images are kept on the device: as forced, or by their size against the device's memory."""
    if feed != "auto":
        return feed == "resident"
    return sum(split.nbytes for split in splits) <= _RESIDENT_SHARE * device_memory(mesh)


def device_memory(mesh: Mesh) -> int:
    """Bytes of memory of one device; of a CPU, the machine's, shared by the devices that it plays."""
    device = mesh.local_devices[0]
    statistics = device.memory_stats() or {}
    if "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total // len(mesh.local_devices)


def upload(split: Any, mesh: Mesh) -> Batch:
    """The whole split on every device."""
    arrays = {"image": split.read_all(), "label": split.labels, "aspect": split.aspect}
    return meshes.put(arrays, meshes.replicated(mesh))


def rows(whole: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """A host array that every process has whole, sharded over the devices."""
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def to_host(array: jax.Array) -> np.ndarray:
    """The whole of an array that is sharded over the devices of all processes, in each of them."""
    if meshes.is_multi_process():
        from jax.experimental import multihost_utils

        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def ahead(host: Iterator[Batch], sharding: jax.sharding.Sharding, waited: Callable[[float], None]) -> Iterator[Batch]:
    """The host's batches on the devices, their transfers started `_BATCHES_AHEAD` batches early."""
    queue: collections.deque[Batch] = collections.deque()
    for batch in _timed(host, waited):
        queue.append(meshes.put(batch, sharding))
        if len(queue) > _BATCHES_AHEAD:
            yield queue.popleft()
    yield from queue


def _timed(host: Iterator[Batch], waited: Callable[[float], None]) -> Iterator[Batch]:
    while True:
        start = time.perf_counter()
        batch = next(host, None)
        waited(time.perf_counter() - start)
        if batch is None:
            return
        yield batch
