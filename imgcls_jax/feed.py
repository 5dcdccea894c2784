"""How images reach the compiled step: resident on the device, or streamed from the host.

Both give the same batches in the same order to the same step, so they give the same parameters.

Resident: all canvases lie on every device; one dispatch runs many steps, each of which gathers its rows. On CPU a
dispatch is one step, because XLA's CPU backend is slow at a convolution's backward pass inside a loop.
Streamed: the host reads batches ahead of time and the device receives two batches ahead of the step.
"""

import collections
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax import mesh as meshes
from imgcls_jax.data import Split
from imgcls_jax.metrics import Metrics
from imgcls_jax.state import TrainState, Tree
from imgcls_jax.steps import EvalStep, TrainStep

# Share of a device's memory that resident images may take; the rest is for the model and its activations.
_RESIDENT_SHARE = 0.4
# Steps between two looks of the host at the device, in a resident epoch on GPU or TPU.
_STEPS_PER_DISPATCH = 32
_BATCHES_AHEAD = 2


class TrainFeed(Protocol):
    """Runs epochs of the training split."""

    waited: float
    """Seconds for which the device had to wait for data in the epoch so far."""

    def compile(self, step: TrainStep, state: TrainState) -> jax.stages.Compiled:
        """Compile the step for this feed's shapes, to be run by `epoch`."""
        ...

    def epoch(self, state: TrainState, epoch: int, first: int) -> Iterator[tuple[TrainState, Metrics, int]]:
        """Run an epoch from its step `first` on; after each dispatch yield the state, the epoch's metrics so far
        (not waited for) and the number of the epoch's steps done."""
        ...


def is_resident(feed: str, splits: list[Split], mesh: Mesh) -> bool:
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


def training(split: Split, config: c.Config, mesh: Mesh, *, resident: bool) -> TrainFeed:
    """The feed of the training split."""
    return (ResidentTraining if resident else StreamedTraining)(split, config, mesh)


class ResidentTraining:
    """All training images on the device."""

    def __init__(self, split: Split, config: c.Config, mesh: Mesh):
        self.waited = 0.0
        self._labels, self._seed, self._batch = split.labels, config.seed, config.batch_size
        self._sampling = config.data.sampling
        self._steps = len(split) // config.batch_size
        self._mesh = mesh
        self._loop = jax.default_backend() != "cpu"
        self._data = _upload(split, mesh)
        self._run: Callable[..., tuple[TrainState, Metrics]]

    def compile(self, step: TrainStep, state: TrainState) -> jax.stages.Compiled:
        def one(i: Any, state: TrainState, data: Tree, order: jax.Array) -> TrainState:
            rows = jax.lax.with_sharding_constraint(order[i], meshes.batch(self._mesh))
            return step(state, {name: array[rows] for name, array in data.items()} | {"index": rows})

        def run(state: TrainState, data: Tree, order: jax.Array, first: Any, last: Any) -> Any:
            if self._loop:
                # Bounds are arguments, so that a shorter dispatch at an epoch's end compiles nothing anew.
                state = jax.lax.fori_loop(first, last, lambda i, s: one(i, s, data, order), state)
            else:
                state = one(first, state, data, order)
            return state, state.metrics

        compiled = _compile(run, state, self._data, self._order(0), np.int32(0), np.int32(0))
        self._run = compiled
        return compiled

    def epoch(self, state: TrainState, epoch: int, first: int) -> Iterator[tuple[TrainState, Metrics, int]]:
        order = self._order(epoch)
        stride = _STEPS_PER_DISPATCH if self._loop else 1
        for start in range(first, self._steps, stride):
            end = min(start + stride, self._steps)
            state, metrics = self._run(state, self._data, order, np.int32(start), np.int32(end))
            yield state, metrics, end

    def _order(self, epoch: int) -> jax.Array:
        """int32 [steps, batch]: the rows of each of the epoch's steps."""
        rows = data.train_order(self._labels, self._sampling, self._seed, epoch)[: self._steps * self._batch]
        return meshes.put(rows.astype(np.int32).reshape(-1, self._batch), meshes.replicated(self._mesh))


class StreamedTraining:
    """Training images from the host, batch by batch."""

    def __init__(self, split: Split, config: c.Config, mesh: Mesh):
        self.waited = 0.0
        self._split, self._seed, self._batch = split, config.seed, config.batch_size
        self._sampling = config.data.sampling
        self._threads = config.data.workers or os.cpu_count() or 1
        self._sharding = meshes.batch(mesh)
        self._run: Callable[..., tuple[TrainState, Metrics]]

    def compile(self, step: TrainStep, state: TrainState) -> jax.stages.Compiled:
        def run(state: TrainState, batch: Tree) -> tuple[TrainState, Metrics]:
            state = step(state, batch)
            return state, state.metrics

        share = self._batch // jax.process_count()
        example = {
            "image": self._split.read(np.zeros(share, np.int64)),
            "label": np.zeros(share, np.int32),
            "aspect": np.zeros(share, np.float32),
            "index": np.zeros(share, np.int32),
        }
        compiled = _compile(run, state, meshes.put(example, self._sharding))
        self._run = compiled
        return compiled

    def epoch(self, state: TrainState, epoch: int, first: int) -> Iterator[tuple[TrainState, Metrics, int]]:
        self.waited = 0.0
        order = data.train_order(self._split.labels, self._sampling, self._seed, epoch)
        host = data.train_batches(
            self._split,
            order,
            self._batch,
            start_step=first,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            threads=self._threads,
        )
        for i, batch in enumerate(_ahead(host, self._sharding, self._wait), first + 1):
            state, metrics = self._run(state, batch)
            yield state, metrics, i

    def _wait(self, seconds: float) -> None:
        self.waited += seconds


class Evaluation:
    """Evaluates one split: every example counts exactly once, by padding the last batch and masking the padding."""

    def __init__(self, split: Split, config: c.Config, mesh: Mesh, step: EvalStep, *, resident: bool):
        self._split, self._mesh = split, mesh
        self._threads = config.data.workers or os.cpu_count() or 1
        self._batch = config.eval_batch_size or config.batch_size
        self._data = _upload(split, mesh) if resident else None
        self._step = jax.jit(step, donate_argnums=1)
        self._gather = jax.jit(
            lambda data, rows: {name: array[rows] for name, array in data.items()},
            out_shardings=meshes.batch(mesh),
        )

    def __call__(self, variables: tuple[Tree, Tree]) -> dict[str, float]:
        """The metrics over the whole split; see `Metrics.result`."""
        metrics = meshes.put(Metrics.empty(), meshes.replicated(self._mesh))
        for batch in self._batches():
            metrics = self._step(variables, metrics, batch)
        return metrics.result()

    def _batches(self) -> Iterator[Tree]:
        sharding = meshes.batch(self._mesh)
        if self._data is None:
            host = data.eval_batches(
                self._split,
                self._batch,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
                threads=self._threads,
            )
            yield from _ahead(host, sharding, lambda _: None)
            return
        for start in range(0, len(self._split), self._batch):
            rows = np.arange(start, start + self._batch)
            mask = rows < len(self._split)
            yield self._gather(self._data, np.where(mask, rows, 0)) | {"mask": _rows(mask, sharding)}


def _upload(split: Split, mesh: Mesh) -> Tree:
    """The whole split on every device."""
    arrays = {"image": split.read_all(), "label": split.labels, "aspect": split.aspect}
    return meshes.put(arrays, meshes.replicated(mesh))


def _rows(whole: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """A host array that every process has whole, sharded over the devices."""
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _compile(run: Callable[..., Any], state: TrainState, *arguments: Any) -> jax.stages.Compiled:
    """Compile ahead; the state is donated and keeps its shardings, the metrics are on every device."""
    shardings = jax.tree.map(lambda x: x.sharding, state)
    return (
        jax.jit(run, donate_argnums=0, out_shardings=(shardings, shardings.metrics)).lower(state, *arguments).compile()
    )


def _ahead(host: Iterator[Tree], sharding: jax.sharding.Sharding, waited: Callable[[float], None]) -> Iterator[Tree]:
    """The host's batches on the devices, their transfers started `_BATCHES_AHEAD` batches early."""
    queue: collections.deque[Tree] = collections.deque()
    for batch in _timed(host, waited):
        queue.append(meshes.put(batch, sharding))
        if len(queue) > _BATCHES_AHEAD:
            yield queue.popleft()
    yield from queue


def _timed(host: Iterator[Tree], waited: Callable[[float], None]) -> Iterator[Tree]:
    while True:
        start = time.perf_counter()
        batch = next(host, None)
        waited(time.perf_counter() - start)
        if batch is None:
            return
        yield batch
