"""Kill training runs at random moments until each is finished, and compare them with runs that were never killed.

    python kill_campaign.py FOLDER KILLS SEED

Every run is a process forked from this one, which has imported everything and computed nothing: a start costs little.
Prints a line per case, and ends with status 1 at the first difference.
"""

import contextlib
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import grain  # noqa: F401 - imported before the forks
import jax
import matplotlib.figure  # noqa: F401
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.loop import train
from imgcls_jax.xla import runtime

_BY_THE_CLOCK = ("seconds", "images_per_second", "waited_for_data")


class Explosion(c.Shape):
    """The peak rate, but for one step of a rate that ruins the parameters."""

    step: int

    def rates(self, peak, *, entries, unit):
        return peak * np.where(np.arange(entries) == self.step, 1e30, 1.0)


def cases():
    """{name: config} of everything that a checkpoint has to carry; four steps an epoch."""

    def config(*, optimizer=None, shape=None, feed="resident", optim=None, **changes):
        data = c.Data(
            source=c.Arrays(), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, feed=feed
        )
        schedule = c.Schedule(0.01, shape or c.Cosine())
        settings = {
            "name": "campaign",
            "data": data,
            "augment": (c.PadCrop(1), c.HorizontalFlip()),
            "model": c.CNN(
                convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head(dropout=0.1)
            ),
            "loss": c.CrossEntropy(),
            "optim": c.Optim(optimizer or c.AdamW(), schedule, **(optim or {})),
            "batch_size": 16,
            "epochs": 4,
            "precision": "fp32",
            "seed": 0,
            "mesh": c.Mesh(devices=1),
            "logging": c.Logging(tensorboard=False),
        }
        return c.Config(**settings | changes)

    frozen = c.Transfer(freeze=("convs.*",), allow_frozen_random=True, unfreeze=(c.Unfreeze("convs.*", from_epoch=2),))
    return {
        "phases, EMA": config(
            optim={"ema": c.EMA(0.9)}, augment=(c.HorizontalFlip(), c.Mixup(0.5, from_epoch=2)), save_every_steps=1
        ),
        "streamed, accumulated, SWA": config(feed="streamed", optim={"accumulate": 2, "swa": c.SWA(from_epoch=1)}),
        "fp16 with skipped steps": config(
            precision="fp16", optimizer=c.SGD(momentum=0.9), shape=c.Constant(), loss=Steep(), save_every_steps=3
        ),
        "unfreezing, every N steps": config(
            transfer=frozen, save_every_steps=2, evaluate_every_steps=3, log_every_steps=1
        ),
        "recovery": config(
            optimizer=c.SGD(), shape=Explosion(10), recover=c.Recover(factor=1e-30), save_every_steps=1, epochs=5
        ),
        "plateau": config(
            optimizer=c.SGD(momentum=0.9),
            shape=c.ReduceOnPlateau("loss", patience=0, threshold=0.5),
            save_every_steps=5,
        ),
    }


class Steep(c.Loss):
    """Cross-entropy, steep enough for its scaled fp16 gradients to overflow at first."""

    def build(self, **kwargs):
        loss = c.CrossEntropy().build(**kwargs)
        return lambda logits, labels: 8.0 * loss(logits, labels)


class Ready(Callback):
    """Writes a byte to a pipe when training starts."""

    def __init__(self, pipe):
        self._pipe = pipe

    def on_start(self, run):
        os.write(self._pipe, b".")


def start(config, arrays, workdir):
    """Train in a forked process; return its id once training has started, or None if there was nothing left to do."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        with contextlib.suppress(KeyboardInterrupt):
            try:
                os.close(read)
                train(config, workdir, arrays=arrays, callbacks=[Ready(write)], console=Console(silent=True))
                status = 0
            except Exception as error:
                print(f"{workdir}: {type(error).__name__}: {error}", flush=True)
        os._exit(status)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return process


def ended(process, seconds):
    """Wait for a process so long; return its exit code (-9: SIGKILL), or None if it goes on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process_id, status = os.waitpid(process, os.WNOHANG)
        if process_id:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def finished(workdir):
    return (workdir / "result.json").exists()


def record(workdir):
    """All that has to be the same, and a hash would hide: parameters, statistics, optimizer, history, result."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((workdir / "result.json").read_text())
    figures = [{key: value for key, value in line.items() if key not in _BY_THE_CLOCK} for line in lines]
    final = {key: result[key] for key in ("validation", "test", "epochs", "best_epoch", "stopped")}
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    newest = checkpoints.latest()
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(checkpoints.arrays(newest))}
    document = checkpoints.run(newest)
    kept = {key: document[key] for key in ("best", "recoveries", "anchors", "learning_rate_factor")}
    checkpoints.close()
    return {"newest": newest, "arrays": arrays, "figures": figures, "result": final, "document": kept}


def differences(one, other):
    """The names of what differs between two records."""
    names = [name for name in one if name != "arrays" and one[name] != other[name]]
    left, right = one["arrays"], other["arrays"]
    same = left.keys() == right.keys() and all(np.array_equal(left[path], right[path]) for path in left)
    return names if same else [*names, "arrays"]


def compare(folder, rounds):
    """In a process of its own, which may compute: the number of rounds that differ from the whole run."""
    process = os.fork()
    if process == 0:
        whole, wrong = record(folder / "whole"), 0
        skipped = whole["figures"][-1].get("skipped_steps", 0)
        for number in range(rounds):
            if found := differences(whole, record(folder / str(number))):
                print(f"{folder / str(number)} differs in {', '.join(found)}", flush=True)
                wrong = 1
        said = {"fp16 with skipped steps": skipped, "recovery": whole["document"]["recoveries"]}
        if said.get(folder.name, 1) == 0:
            print(f"{folder.name}: what was to be tested did not happen", flush=True)
            wrong = 1
        os._exit(wrong)
    return ended(process, math.inf)


def main():
    runtime.setup()
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng, configs = random.Random(seed), cases()
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    failed = 0
    for number, (name, config) in enumerate(configs.items()):
        wanted = kills // len(configs) + (number < kills % len(configs))
        process, began = start(config, arrays, folder / name / "whole"), time.monotonic()
        failed |= ended(process, math.inf)
        shortest, killed, rounds, starts = time.monotonic() - began, 0, 0, 0
        while not failed and (killed < wanted or not rounds or not finished(folder / name / str(rounds - 1))):
            process, began = start(config, arrays, folder / name / str(rounds)), time.monotonic()
            starts += 1
            code = ended(process, rng.uniform(0, shortest) if killed < wanted else math.inf)
            if code is None:
                os.kill(process, signal.SIGKILL)
                killed += ended(process, math.inf) == -signal.SIGKILL
            elif code == 0:
                rounds, shortest = rounds + 1, min(shortest, time.monotonic() - began)
            else:
                failed = 1
        failed |= compare(folder / name, rounds)
        print(f"{name}: {killed} kills, {starts} starts, {rounds} finished runs", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
