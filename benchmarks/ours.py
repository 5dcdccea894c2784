"""Our side of the benchmarks: the library as its commands use it, from a config through the training loop."""

# ruff: noqa: E402 - flags must be set before JAX is imported

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import cifar10
from benchmarks.cifar10 import MEAN, STD
from benchmarks.process import ROOT, Answer, CannotRun
from imgcls_jax.xla import runtime

RUNTIME = runtime.setup()

import jax
import numpy as np

from imgcls_jax import augment, data
from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan.process import peak_memory
from imgcls_jax.training import loop
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.callbacks.recovery import Recovery
from imgcls_jax.training.experiment import Experiment, training_images
from imgcls_jax.training.run import Run

MODELS: dict[str, Any] = {
    "resnet18": c.ResNet("resnet18", head=c.Head(), stem="cifar"),
    "resnet50": c.ResNet("resnet50", head=c.Head()),
    "lenet": c.CNN(
        convs=(c.Conv(10, 5, pool=2), c.Conv(20, 5, pool=2)),
        aggregate="flatten",
        head=c.Head(hidden=(c.Dense(120), c.Dense(84))),
    ),
    "cnn": c.CNN(
        convs=tuple(c.Conv(channels, 3, padding=1, pool=2) for channels in (32, 64, 128)),
        aggregate="flatten",
        head=c.Head(hidden=(c.Dense(256),)),
    ),
}


def steps(
    *,
    model: str,
    size: int,
    classes: int,
    batch: int,
    steps: int,
    precision: str,
    remat: bool = False,
    kernels: str | None = None,
    **_: Any,
) -> Iterator[Answer]:
    """Whole training steps on resident images without augmentation; a measurement is an epoch of `steps` steps.

    `kernels` are those of convolutions on a CPU; None: the faster ones.

    Yields {"seconds": of one step, "host_bytes", "device_bytes": peaks so far}; first {"parameters", "choice"} after
    a first such epoch.
    """
    settings, arrays = resident_noise(steps * batch, size, classes)
    experiment = dataclasses.replace(config(settings, (), model, batch, precision), remat=remat)
    trainer = _fastest(experiment, data.load(settings, arrays=arrays), kernels)
    yield trainer.description()
    while True:
        start = time.perf_counter()
        trainer.epoch()
        seconds = (time.perf_counter() - start) / steps
        memory = jax.devices()[0].memory_stats() or {}
        yield {
            "seconds": seconds,
            "host_bytes": peak_memory(),
            "device_bytes": memory.get("peak_bytes_in_use"),
        }


def epochs(*, model: str, batch: int, images: str, **_: Any) -> Iterator[Answer]:
    """Whole epochs of CIFAR-10 (its first `images`, a tfds slice) with flips and rotation, and their evaluation.

    Yields {"seconds": of an epoch, "host_seconds": for which its own thread kept a processor busy, with everything
    that is not the device's work; "accuracy"}; first {"parameters", "choice"}, after compiling everything.
    """
    settings, dataset = cifar10.load(images)
    policy = (c.HorizontalFlip(), c.VerticalFlip(), c.Rotation(15, interpolation="nearest"))
    trainer = _fastest(config(settings, policy, model, batch, "fp32"), dataset)
    trainer.evaluate()
    yield trainer.description()
    while True:
        start, host_start = time.perf_counter(), time.thread_time()
        trainer.epoch()
        accuracy = trainer.evaluate()
        seconds, host_seconds = time.perf_counter() - start, time.thread_time() - host_start
        yield {"seconds": seconds, "host_seconds": host_seconds, "accuracy": accuracy}


def folder(*, path: str, batch: int, jpeg_decoding: Any, **_: Any) -> Iterator[Answer]:
    """A folder of images to augmented, normalized 224×224 batches on the device, twice, from an empty canvas cache on.

    Yields {"first", "second": images a second of either epoch}; the first answer is a warm-up.
    """
    policy = (c.RandomResizedCrop(), c.HorizontalFlip())
    run = augment.build(policy, epoch=0, image_size=(224, 224), mean=MEAN, std=STD, num_classes=1000, fit="stretch")
    device_step = jax.jit(run)

    def epoch(split: data.Split, number: int) -> int:
        order = data.epoch_order(0, number, len(split))
        batches = 0
        for i, host in enumerate(data.train_batches(split, order, batch)):
            key = jax.random.fold_in(jax.random.key(0), i)
            made = device_step(key, host["image"], host["label"], host["aspect"], np.int32(number), host["index"])
            jax.block_until_ready(made)
            batches += 1
        return batches * batch

    choice = f"canvas 256×256, {jpeg_decoding} decoding, {RUNTIME.xla_flags}"
    while True:
        with tempfile.TemporaryDirectory() as cache:
            settings = c.Data(
                source=c.Folder(path),
                canvas=c.Canvas(256, 256, fit="stretch", jpeg_decoding=jpeg_decoding),
                image_size=(224, 224),
                mean=MEAN,
                std=STD,
                cache_dir=cache,
            )
            start = time.perf_counter()
            split = data.load(settings).train
            first = epoch(split, 0) / (time.perf_counter() - start)
            start = time.perf_counter()
            second = epoch(split, 1) / (time.perf_counter() - start)
        yield {"first": first, "second": second, "choice": choice}


def speed_run(*, smoke: bool, variant: str = "") -> Iterator[Answer]:
    """Whole runs of configs/cifar10_speedrun.py in a variant, a seed after the other.

    Yields {"seconds": of whitening, training and the test by views, "ahead_seconds": of initial values, upload and
    compilation before them, "accuracy"}; first {"choice"}.
    """
    config = files.load(f"{ROOT / 'configs' / 'cifar10_speedrun.py'}:{variant}".removesuffix(":"))
    if smoke:
        source = c.TFDS("cifar10", train="train[:64]", validation=None, test="test[:32]")
        settings = dataclasses.replace(config.data, source=source)
        config = dataclasses.replace(config, data=settings, batch_size=32, epochs=2)
    try:
        dataset = data.load(config.data)
    except UserError as error:
        raise CannotRun(str(error)) from error
    for seed in itertools.count():
        begin = time.perf_counter()
        trainer = _Trainer(dataclasses.replace(config, seed=seed), dataset)
        trainer.test()  # compiles it
        if seed == 0:
            yield trainer.description()
        start = time.perf_counter()
        # It has been computed for the initial values; once more, to be timed.
        config.model.computed_values(functools.partial(training_images, config, dataset.train))
        for _ in range(config.epochs):
            trainer.epoch()
        accuracy = trainer.test()
        yield {"seconds": time.perf_counter() - start, "ahead_seconds": start - begin, "accuracy": accuracy}


def resident_noise(count: int, size: int, classes: int) -> tuple[c.Data, dict[str, np.ndarray]]:
    """Settings and arrays of `count` training images of noise, which lie on the device."""
    arrays = {
        "x_train": np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8),
        "y_train": np.arange(count) % classes,
        "label_names": np.array([f"class {i}" for i in range(classes)]),
    }
    settings = c.Data(
        source=c.Arrays(),
        canvas=c.Canvas(size, size),
        image_size=(size, size),
        mean=MEAN,
        std=STD,
        feed="resident",
    )
    return settings, arrays


def bandwidth(**_: Any) -> Iterator[Answer]:
    """Bytes a second that the device's memory sustains, reading and writing; the best of twenty copies of 1 GiB."""
    x = jax.numpy.zeros(2**28)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        x = jax.block_until_ready(add(x))
        times.append(time.perf_counter() - start)
    yield {"bytes_per_second": 2 * x.nbytes / min(times)}


def config(
    settings: c.Data, policy: c.Policy, model: str, batch: int, precision: Any, mesh: c.Mesh | None = None
) -> c.Config:
    """The experiment of a benchmark: plain SGD, on one device unless `mesh` says otherwise."""
    return c.Config(
        name="benchmark",
        data=settings,
        augment=policy,
        model=MODELS[model],
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=0.01, shape=c.Constant())),
        batch_size=batch,
        epochs=1000,
        precision=precision,
        seed=0,
        mesh=mesh or c.Mesh(devices=1),
    )


def _fastest(experiment: c.Config, dataset: data.Dataset, kernels: str | None = None) -> "_Trainer":
    """A trainer that has trained some steps, with the kernels that took the least time for as many more."""
    choices = [kernels] if kernels else ["xla", "onednn"] if jax.default_backend() == "cpu" else ["xla"]
    tried: dict[str, tuple[float, _Trainer]] = {}
    for choice in choices:
        trainer = _Trainer(dataclasses.replace(experiment, cpu_convolutions=choice), dataset)
        first = max(trainer.run.steps_per_epoch - 64, 0)  # all steps of P1, P2, P6 and P8
        trainer.epoch(first)
        if len(choices) == 1:
            return trainer
        start = time.perf_counter()
        trainer.epoch(first)
        tried[choice] = (time.perf_counter() - start) / (trainer.run.steps_per_epoch - first), trainer
    fastest = min(tried.values(), key=lambda timed: timed[0])[1]
    fastest.tried = ", ".join(f"{choice} {1e3 * seconds:.0f} ms" for choice, (seconds, _) in tried.items())
    return fastest


class _Trainer:
    """What `train` does between two checkpoints."""

    def __init__(self, config: c.Config, dataset: data.Dataset):
        self.run = Experiment(config, dataset, meshes.make(config.mesh))
        self.run.compile_ahead(0)
        self.tried = ""
        """Which kernels were compared, and the times of their steps."""
        # Never entered: there are no checkpoints here.
        self._loop = Run(self.run, Path(), [Recovery(None), Console(silent=True)])
        self._loop.state, self.compiled = self.run.enter_phase(self.run.initial_state(), 0, previous=0)

    def epoch(self, first: int = 0) -> None:
        """Train an epoch from its step `first` on."""
        progress = self._loop.progress
        progress.step_in_epoch = first
        self._loop.enter_epoch()
        loop.train_epoch(self._loop)
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        jax.block_until_ready(self._loop.state)

    def evaluate(self) -> float:
        assert self.run.validate
        return self.run.validate(self.run.evaluation_variables(self._loop.state, 0))["top1"]

    def test(self) -> float:
        assert self.run.test
        return self.run.test(self.run.evaluation_variables(self._loop.state, 0))["top1"]

    def description(self) -> Answer:
        kernels = "onednn" if self.run.uses_onednn else "xla"
        tried = f"; a step: {self.tried}" if self.tried else ""
        return {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._loop.state.params)),
            "choice": f"{jax.devices()[0].device_kind}, XLA_FLAGS={RUNTIME.xla_flags or 'unset'}, {kernels}{tried}",
        }
