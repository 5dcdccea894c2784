"""How images reach the compiled step: resident on the device, or streamed from the host.

Both give the same batches in the same order to the same step, so they give the same parameters.

Resident: all canvases lie on every device; one dispatch runs many steps, each of which gathers its rows. On CPU a
dispatch is one step, because XLA's CPU backend is slow at a convolution's backward pass inside a loop.
Streamed: the host reads batches ahead of time and the device receives two batches ahead of the step.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data import Split
from imgcls_jax.evaluation.metrics import AnyMetrics
from imgcls_jax.models.network import Tree
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import transfer
from imgcls_jax.training.finite import is_finite
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.steps import Batch, Diagnose, Diagnostics, TrainStep

# Steps between two looks of the host at the device, in a resident epoch on GPU or TPU.
_STEPS_PER_DISPATCH = 32


@runtime_checkable
class TrainFeed(Protocol):
    """Runs epochs of the training split."""

    waited: float
    """Seconds for which the device had to wait for data in the epoch so far."""
    diagnostics: Diagnostics | None
    """Of the newest dispatch's last step (not waited for); None unless `diagnose_every` asks for them."""
    finite: Bool[Array, ""]
    """Whether the state is finite after the newest dispatch (not waited for); see `finite.is_finite`."""

    def compile(self, step: TrainStep, state: TrainState, diagnose: Diagnose | None = None) -> jax.stages.Compiled:
        """Compile the step for this feed's shapes, to be run by `epoch`; and what computes its norms, if given."""
        ...

    def epoch(
        self,
        state: TrainState,
        epoch: int,
        first: int,
        *,
        last: int | None = None,
        every: Sequence[int] = (),
        diagnose_every: int | None = None,
    ) -> Iterator[tuple[TrainState, AnyMetrics, int]]:
        """Run an epoch; after each dispatch yield the state, the epoch's metrics so far (not waited for) and the number
        of the epoch's steps done.

        Args:
          state: the state after step `first` of the epoch; donated.
          epoch: counted from 0.
          first, last: the steps of the epoch to run, from `first` up to but not including `last`; None: all the rest.
          every: no dispatch goes beyond a multiple of one of these numbers of steps, counted from epoch 0.
          diagnose_every: compute the diagnostics of every step whose number is a multiple of this, counted alike.
        """
        ...


def training(split: Split, config: c.Config, mesh: Mesh, *, resident: bool) -> TrainFeed:
    """The feed of the training split."""
    return (ResidentTraining if resident else StreamedTraining)(split, config, mesh)


def endless(training: TrainFeed, state: TrainState, epoch: int = 0) -> Iterator[tuple[AnyMetrics, int]]:
    """Train from the start of `epoch` on without end; after each dispatch yield the metrics so far (not waited for) and
    the dispatch's number of steps. The feed must be compiled."""
    for number in itertools.count(epoch):
        before = 0
        for state, metrics, done in training.epoch(state, number, 0):
            yield metrics, done - before
            before = done


class ResidentTraining:
    """All training images on the device."""

    def __init__(self, split: Split, config: c.Config, mesh: Mesh):
        self.waited = 0.0
        self.diagnostics: Diagnostics | None = None
        self.finite: Bool[Array, ""] = jnp.ones((), bool)
        self._labels, self._seed, self._batch = split.labels, config.seed, config.batch_size
        self._sampling = config.data.sampling
        self._steps = len(split) // config.batch_size
        self._mesh = mesh
        self._loop = meshes.platform(mesh) != "cpu"
        self._data = transfer.upload(split, mesh)
        self._run: Callable[..., tuple[TrainState, AnyMetrics, Bool[Array, ""]]]
        self._diagnose: Callable[..., Diagnostics]

    def compile(self, step: TrainStep, state: TrainState, diagnose: Diagnose | None = None) -> jax.stages.Compiled:
        def batch(i: Any, data: Tree, order: jax.Array) -> Batch:
            rows = jax.lax.with_sharding_constraint(order[i], meshes.batch(self._mesh))
            return {name: array[rows] for name, array in data.items()} | {"index": rows}

        def run(state: TrainState, data: Tree, order: jax.Array, first: Any, last: Any) -> Any:
            if self._loop:
                # Bounds are arguments, so that a shorter dispatch at an epoch's end compiles nothing anew.
                state = jax.lax.fori_loop(first, last, lambda i, s: step(s, batch(i, data, order)), state)
            else:
                state = step(state, batch(first, data, order))
            return state, state.metrics, is_finite(state)

        compiled = _trace(run, state, self._data, self._order(0), np.int32(0), np.int32(0)).lower().compile()
        if diagnose is not None:
            norms = jax.jit(lambda state, data, order, i: diagnose(state, batch(i, data, order)))
            self._diagnose = norms.lower(state, self._data, self._order(0), np.int32(0)).compile()
        self._run = compiled
        return compiled

    def epoch(
        self,
        state: TrainState,
        epoch: int,
        first: int,
        *,
        last: int | None = None,
        every: Sequence[int] = (),
        diagnose_every: int | None = None,
    ) -> Iterator[tuple[TrainState, AnyMetrics, int]]:
        order = self._order(epoch)
        last = self._steps if last is None else last
        stride = _STEPS_PER_DISPATCH if self._loop else 1
        before = epoch * self._steps
        for start, end in dispatches(first, last, stride=stride, before=before, every=every, alone=diagnose_every):
            self.diagnostics = None
            if diagnose_every and (before + end) % diagnose_every == 0:
                self.diagnostics = self._diagnose(state, self._data, order, np.int32(start))
            state, metrics, self.finite = self._run(state, self._data, order, np.int32(start), np.int32(end))
            yield state, metrics, end

    def _order(self, epoch: int) -> jax.Array:
        """int32 [steps, batch]: the rows of each of the epoch's steps."""
        rows = data.train_order(self._labels, self._sampling, self._seed, epoch)[: self._steps * self._batch]
        return meshes.put(rows.astype(np.int32).reshape(-1, self._batch), meshes.replicated(self._mesh))


class StreamedTraining:
    """Training images from the host, batch by batch."""

    def __init__(self, split: Split, config: c.Config, mesh: Mesh):
        self.waited = 0.0
        self.diagnostics: Diagnostics | None = None
        self.finite: Bool[Array, ""] = jnp.ones((), bool)
        self._split, self._seed, self._batch = split, config.seed, config.batch_size
        self._sampling = config.data.sampling
        self._threads = data.threads(config.data.workers)
        self._sharding = meshes.batch(mesh)
        self._run: Callable[..., tuple[TrainState, AnyMetrics, Bool[Array, ""]]]
        self._diagnose: Callable[..., Diagnostics]

    def compile(self, step: TrainStep, state: TrainState, diagnose: Diagnose | None = None) -> jax.stages.Compiled:
        share = self._batch // jax.process_count()
        example = {
            "image": self._split.read(np.zeros(share, np.int64)),
            "label": self._split.labels[np.zeros(share, np.int64)],
            "aspect": np.zeros(share, np.float32),
            "index": np.zeros(share, np.int32),
        }
        batch = meshes.put(example, self._sharding)
        compiled = trace_streamed(step, state, batch).lower().compile()
        if diagnose is not None:
            self._diagnose = jax.jit(diagnose).lower(state, batch).compile()
        self._run = compiled
        return compiled

    def epoch(
        self,
        state: TrainState,
        epoch: int,
        first: int,
        *,
        last: int | None = None,
        every: Sequence[int] = (),
        diagnose_every: int | None = None,
    ) -> Iterator[tuple[TrainState, AnyMetrics, int]]:
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
        host = itertools.islice(host, None if last is None else last - first)
        before = epoch * (len(order) // self._batch)
        for i, batch in enumerate(transfer.ahead(host, self._sharding, self._wait), first + 1):
            self.diagnostics = None
            if diagnose_every and (before + i) % diagnose_every == 0:
                self.diagnostics = self._diagnose(state, batch)
            state, metrics, self.finite = self._run(state, batch)
            yield state, metrics, i

    def _wait(self, seconds: float) -> None:
        self.waited += seconds


def dispatches(
    first: int, last: int, *, stride: int, before: int, every: Sequence[int], alone: int | None = None
) -> Iterator[tuple[int, int]]:
    """Cut the steps from `first` up to `last` of an epoch into dispatches of at most `stride` steps.

    Args:
      first, last: steps of the epoch.
      stride: most steps per dispatch.
      before: steps of all epochs before this one.
      every: no dispatch goes beyond a multiple of one of these numbers, counted from the first epoch's first step.
      alone: a step whose number is a multiple of this, counted alike, is a dispatch of its own.
    """
    start = first
    while start < last:
        ends = [start + cadence - (before + start) % cadence for cadence in every]
        if alone:
            ends.append(start + (alone - 1 - (before + start) % alone or 1))
        end = min(start + stride, last, *ends)
        yield start, end
        start = end


def trace_streamed(step: TrainStep, state: TrainState, batch: Tree) -> jax.stages.Traced:
    """Trace the streamed feed's step; the state and the batch may be shapes, types and shardings alone."""

    def run(state: TrainState, batch: Tree) -> tuple[TrainState, AnyMetrics, Bool[Array, ""]]:
        state = step(state, batch)
        return state, state.metrics, is_finite(state)

    return _trace(run, state, batch)


def _trace(run: Callable[..., Any], state: TrainState, *arguments: Any) -> jax.stages.Traced:
    """Trace ahead; the state is donated and keeps its shardings, all else is on every device."""
    shardings = jax.tree.map(lambda x: x.sharding, state)
    outputs = (shardings, shardings.metrics, jax.tree.leaves(shardings.metrics)[0])
    return jax.jit(run, donate_argnums=0, out_shardings=outputs).trace(state, *arguments)
