"""A long run neither grows nor slows down, and spends its time on training."""

import os
import time

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.loop import train

STEPS, PER_EPOCH, BATCH = 10_000, 250, 16


class Watch(Callback):
    """The process's resident memory in MiB and the clock, every 1,000 steps."""

    every_steps = 1000

    def __init__(self):
        self.memory, self.clock = [], []

    def on_step(self, run):
        with open("/proc/self/statm") as file:
            self.memory.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.clock.append(time.perf_counter())


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc/self/statm")
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_ten_thousand_steps(feed, tiny_config, tiny_arrays, tmp_path, monkeypatch):
    """Augmentation, dropout, EMA, TensorBoard, an evaluation and a checkpoint per epoch."""
    rng = np.random.default_rng(0)
    labels = np.arange(PER_EPOCH * BATCH) % 3
    images = rng.integers(0, 200, (len(labels), 8, 8, 3)).astype(np.uint8)
    images[np.arange(len(labels)), :, :, labels] += 55
    config = tiny_config(
        data=c.Data(
            source=c.Arrays(), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, feed=feed
        ),
        epochs=STEPS // PER_EPOCH,
        augment=(c.PadCrop(1), c.HorizontalFlip()),
        optim=c.Optim(c.AdamW(), c.Schedule(0.001, c.Cosine()), ema=c.EMA(0.99)),
        logging=c.Logging(tensorboard=True, predictions=False, pictures=False),
    )
    saving = []

    def save(self, *arguments, **named):
        started = time.perf_counter()
        original(self, *arguments, **named)
        saving.append(time.perf_counter() - started)

    original = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    watch = Watch()
    started = time.perf_counter()
    result = train(
        config, tmp_path / "run", arrays=tiny_arrays | {"x_train": images, "y_train": labels}, callbacks=[watch]
    )
    seconds = time.perf_counter() - started
    assert result["history"][-1]["step"] == STEPS and len(saving) >= STEPS // PER_EPOCH
    print(f"{feed}: {seconds:.0f} s; MiB", *(f"{value:.0f}" for value in watch.memory))
    print(f"{1000 * sum(saving) / len(saving):.1f} ms a checkpoint, {sum(saving) / seconds:.1%} of the time")
    # What is compiled, imported and buffered once is there after 2,000 steps.
    assert watch.memory[-1] - watch.memory[1] < 16
