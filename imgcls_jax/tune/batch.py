"""The largest batch that fits into the device's memory, and the fastest one.

Doubles the batch from 32 on, up to --largest and the training set's size. Each size is compiled and its memory
analysed; one that fits by analysis also runs real training steps (feeding, augmentation, forward, backward,
optimizer), which are timed. With several phases, that one is tried which trains the most parameters and takes the most
memory. Where the config's own batch does not fit, proposes the `optim.accumulate` that keeps it, after trying that too.
"""

import dataclasses
import gc
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.memory import config_memory, is_exhausted, memory_limit, step_memory
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.validate import validate

_SMALLEST = 32
# Least time for which the steps of one size are timed, seconds.
_TIMED = 2.0


@dataclass(frozen=True)
class Trial:
    """The result of trying one batch size."""

    batch_size: int
    accumulate: int
    """Parts into which the batch was split."""
    memory: int | None
    """Bytes that the compiled step and the images take on one device; None where it was not even compiled."""
    images_per_second: float | None
    """Speed of real training steps; None where the batch does not fit."""
    verdict: str
    """"fits", or how it was found not to."""

    @property
    def fits(self) -> bool:
        return self.images_per_second is not None


@dataclass(frozen=True)
class Finding:
    """All trials, and what follows from them."""

    trials: list[Trial]
    """In the order in which they were made."""
    limit: int
    """Bytes of a device's memory."""
    stopped: str
    """Why no larger batch was tried."""
    advice: list[str]
    """Sentences for the user."""

    @property
    def largest(self) -> Trial | None:
        """The largest whole batch that fits."""
        return max((t for t in self.trials if t.fits and t.accumulate == 1), key=lambda t: t.batch_size, default=None)

    @property
    def fastest(self) -> Trial | None:
        """The fastest batch that is not split into parts."""
        whole = (t for t in self.trials if t.fits and t.accumulate == 1)
        return max(whole, key=lambda t: t.images_per_second or 0.0, default=None)


class Trials:
    """Tries batch sizes of one experiment, each in an `Experiment` of its own."""

    def __init__(
        self, config: c.Config, dataset: data.Dataset, mesh: jax.sharding.Mesh, report: Callable[[Trial], None]
    ):
        self._config, self._dataset, self._mesh, self._report = config, dataset, mesh, report
        self.limit = memory_limit(mesh)
        self.made: list[Trial] = []
        self._epoch: int | None = None

    def __call__(self, batch_size: int, accumulate: int = 1) -> Trial:
        """Try one size; a step that runs out of memory is an answer, not an error."""
        trial = self._try(batch_size, accumulate)
        gc.collect()  # an Experiment lies in reference cycles, and the next size needs its memory
        self.made.append(trial)
        self._report(trial)
        return trial

    def _try(self, batch_size: int, accumulate: int) -> Trial:
        memory = None
        try:
            run = self._run(batch_size, accumulate)
            epoch = self._hungriest(run)
            train_state, step = run.enter_phase(run.initial_state(), epoch, previous=0)
            memory = step_memory(run, step)
            if memory is not None and memory > self.limit:
                return Trial(batch_size, accumulate, memory, None, "does not fit, by analysis")
            beside = run.validate, run.test  # resident images of these splits share the memory with the steps
            speed = _images_per_second(run, train_state, epoch)
            del beside
        except jax.errors.JaxRuntimeError as error:
            if not is_exhausted(error):
                raise
            return Trial(batch_size, accumulate, memory, None, "does not fit: a real step ran out of memory")
        return Trial(batch_size, accumulate, memory, speed, "fits")

    def _run(self, batch_size: int, accumulate: int) -> Experiment:
        config = dataclasses.replace(
            self._config,
            batch_size=batch_size,
            optim=dataclasses.replace(self._config.optim, accumulate=accumulate),
        )
        # Some schedules have no meaning in epochs of a step or two, and none matters here.
        constant = LearningRate(np.array([config.optim.schedule.peak], np.float32), steps_per_entry=1)
        return Experiment(config, self._dataset, self._mesh, schedule=constant)

    def _hungriest(self, run: Experiment) -> int:
        """First epoch of the phase that needs the most memory: of those that train the most parameters."""
        if self._epoch is None:
            starts = [0, *(epoch for epoch in range(1, run.config.epochs) if run.phase_changes(epoch))]
            trained = {epoch: _parameters(run.abstract_state(epoch)) for epoch in starts}
            most = [epoch for epoch in starts if trained[epoch] == max(trained.values())]
            self._epoch = max(most, key=lambda epoch: _phase_memory(run, epoch)) if len(most) > 1 else most[0]
        return self._epoch


def find(
    config: c.Config,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    largest: int | None = None,
    seconds: float = 300.0,
    report: Callable[[Trial], None] = lambda trial: None,
) -> Finding:
    """Try batch sizes from small to large until one does not fit.

    Args:
      config: the experiment; its `batch_size` is tried as well.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      largest: no larger batch is tried; None: as many images as the training set has.
      seconds: no larger batch is begun when it would foreseeably end later than this.
      report: called with each trial when it is made.

    Raises:
      UserError: something in the config or the data is wrong.
    """
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    dataset = data.load(config.data, arrays=arrays)
    sizes = ladder(len(dataset.train), devices=mesh.size, largest=largest, own=config.batch_size)
    trials = Trials(config, dataset, mesh, report)
    begin = time.monotonic()
    limited = largest is not None and largest < len(dataset.train)
    stopped = f"--largest is {largest}" if limited else f"the training set has {len(dataset.train):,} images"
    for batch_size in sizes:
        started = time.monotonic()
        if not trials(batch_size).fits:
            stopped = "the next size does not fit"
            break
        now = time.monotonic()
        if batch_size < sizes[-1] and now + 2 * (now - started) > begin + seconds:
            stopped = f"--seconds {seconds:g} are over"
            break
    batch_size = sizes[0]
    while not any(trial.fits for trial in trials.made) and batch_size % (2 * mesh.size) == 0:
        batch_size //= 2
        trials(batch_size)
    found = Finding(trials.made, trials.limit, stopped, [])
    return dataclasses.replace(found, advice=_advice(config, dataset, mesh, trials, found))


def ladder(images: int, *, devices: int, largest: int | None, own: int) -> list[int]:
    """List the batch sizes to try, in ascending order: powers of two from 32, and the config's own.

    Raises:
      UserError: not one batch can be made.
    """
    top = min(images, largest or images)
    powers = itertools.takewhile(lambda power: power <= top, (_SMALLEST * 2**i for i in itertools.count()))
    sizes = sorted({power for power in powers if power % devices == 0} | ({own} if own <= top else set()))
    if sizes:
        return sizes
    if top < devices:
        raise UserError(
            f"no batch of at most {top} images can be shared by {devices} devices: set mesh.devices, or raise --largest"
        )
    return [top // devices * devices]


def _phase_memory(run: Experiment, epoch: int) -> int:
    return config_memory(run, run.config, epoch) or 0


def _parameters(train_state: TrainState) -> int:
    """Count the elements of the trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(train_state.params))


def _images_per_second(run: Experiment, train_state: TrainState, epoch: int) -> float:
    dispatches = feed.endless(run.training, train_state, epoch)
    metrics, _ = next(dispatches)  # the first one also allocates
    jax.block_until_ready(metrics)
    steps, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _TIMED:
        metrics, done = next(dispatches)
        jax.block_until_ready(metrics)
        steps += done
    return steps * run.config.batch_size / seconds


def _advice(
    config: c.Config, dataset: data.Dataset, mesh: jax.sharding.Mesh, trials: Trials, found: Finding
) -> list[str]:
    """Say what the trials mean for the config's own batch size."""
    own, largest = config.batch_size, found.largest
    if largest is None:
        return ["no batch fits: take a smaller model or image size, bf16, or more devices with mesh.fsdp"]
    if own > len(dataset.train):
        return [f"batch_size = {own} is larger than the training set of {len(dataset.train)} images: lower it"]
    if own <= largest.batch_size:
        in_parts = config.optim.accumulate
        needless = f"; optim.accumulate = {in_parts} is not needed" if in_parts > 1 else ""
        return [f"batch_size = {own} of the config fits as a whole{needless}"]
    if all(trial.fits for trial in found.trials):
        return [f"batch_size = {own} of the config was not tried: {found.stopped}"]
    parts = [k for k in range(2, own + 1) if own % (k * mesh.size) == 0 and own // k <= largest.batch_size]
    for accumulate in parts:
        if trials(own, accumulate).fits:
            return [
                f"to keep batch_size = {own}: --config.optim.accumulate={accumulate}, which was tried too; BatchNorm, "
                f"if there is any, then normalizes parts of {own // accumulate} images"
            ]
    return [f"batch_size = {own} does not fit in any number of equal parts: lower it to {largest.batch_size}"]
