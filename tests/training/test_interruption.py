"""Signals end a run without losing anything: while it trains, evaluates, saves, tests, and before it starts."""

import dataclasses
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from test_loop import assert_same, final_params
from test_resume import history

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import evaluate
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record import checkpoint
from imgcls_jax.training import interruption
from imgcls_jax.training.callbacks import checkpoints as saving
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.interruption import RESTART, Interrupted


def send(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))


def train(config, workdir, arrays, **kwargs):
    return ic.train(config, workdir, arrays=arrays, console=Console(silent=True), **kwargs)


class At(ic.Callback):
    """Does something after a step, and when a checkpoint has been handed over."""

    def __init__(self, event, step, action):
        self._at, self._action, self.told = (event, step), action, []

    def on_step(self, run):
        if self._at == ("step", run.step):
            self._action()

    def on_checkpoint(self, run):
        if self._at == ("checkpoint", run.step):
            self._action()

    def on_message(self, run, text):
        self.told.append(text)


@pytest.fixture
def config(tiny_config):
    optim = c.Optim(c.SGD(momentum=0.9), c.Schedule(0.05, c.Constant()), swa=c.SWA(from_epoch=1))
    return tiny_config(epochs=3, optim=optim)


@pytest.fixture(scope="module")
def whole(tiny_arrays, tmp_path_factory):
    """What the uninterrupted run of `config` comes to, made once."""
    made = {}

    def of(config):
        if not made:
            made["run"] = tmp_path_factory.mktemp("whole")
            train(config, made["run"], tiny_arrays)
        return made["run"]

    return of


def evaluation_that(sends, call, monkeypatch):
    """Send signals in the middle of an evaluation, the number `call` of the process."""
    count, original = [], evaluate.Evaluation._batches

    def batches(self):
        count.append(None)
        for batch in original(self):
            yield batch
            if len(count) == call:
                send(*sends)
                time.sleep(0)  # where Python runs the handler

    monkeypatch.setattr(evaluate.Evaluation, "_batches", batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "name", "status"),
    [
        ("step 6", "SIGTERM", RESTART),
        ("step 8", "SIGUSR1", RESTART),
        ("checkpoint 8", "SIGHUP", RESTART),
        ("evaluation 2", "SIGTERM", RESTART),  # the second epoch's; given up
        ("evaluation 2", "SIGINT", 130),
        ("evaluation 4", "SIGTERM", RESTART),  # the test
    ],
)
def test_a_signal_loses_nothing(moment, name, status, config, whole, tiny_arrays, tmp_path, monkeypatch):
    event, number = moment.split()
    at, before = At(event, int(number), lambda: send(name)), signal.getsignal(getattr(signal, name))
    with monkeypatch.context() as patch:
        if event == "evaluation":
            evaluation_that([name], int(number), patch)
        with pytest.raises(Interrupted) as end:
            train(config, tmp_path, tiny_arrays, callbacks=[at])
    assert end.value.status == status
    assert signal.getsignal(getattr(signal, name)) == before
    assert not (tmp_path / "result.json").exists()
    if number != "4":
        assert at.told[0].startswith(f"{name}: stopping after this step, and saving")
        assert at.told[1].startswith("stopped and saved; continue with")
        assert [r["epoch"] for r in history(tmp_path)] == ([0, 1] if event == "checkpoint" else [0])
    train(config, tmp_path, tiny_arrays)
    assert_same(final_params(whole(config)), final_params(tmp_path))
    assert history(whole(config)) == history(tmp_path)


def test_a_second_signal_saves_no_more(config, tiny_arrays, tmp_path):
    def twice():
        send("SIGTERM")
        send("SIGTERM")

    at = At("step", 6, twice)
    with pytest.raises(Interrupted, match="stopped at once") as end:
        train(config, tmp_path, tiny_arrays, callbacks=[at])
    assert end.value.status == RESTART
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]


def test_a_second_signal_does_not_break_a_save_off(config, tiny_arrays, tmp_path, monkeypatch):
    from imgcls_jax.record.checkpoint import Checkpoints

    original = Checkpoints.save

    def save(self, step, *args):
        if step == 8:
            send("SIGTERM")
            send("SIGTERM")
        original(self, step, *args)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Interrupted, match="stopped at once"):
        train(config, tmp_path, tiny_arrays)
    assert (tmp_path / "checkpoints" / "8").exists()


def test_several_processes_save_after_the_same_step(config, tiny_arrays, tmp_path, monkeypatch):
    """One that is signaled goes on to the next step at which all of them look whether the first one was."""
    monkeypatch.setattr(meshes, "is_multi_process", lambda: True)
    monkeypatch.setattr(meshes, "agreed", lambda decision: decision)
    monkeypatch.setattr(saving.InterruptTogether, "every_steps", 3)
    with pytest.raises(Interrupted) as end:
        train(config, tmp_path, tiny_arrays, callbacks=[At("step", 4, lambda: send("SIGTERM"))])
    assert end.value.status == RESTART
    assert (tmp_path / "checkpoints" / "6").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(config, tiny_arrays, tmp_path, monkeypatch, capfd):
    """While a checkpoint is written in the background; the one before it is whole, and the run goes on from it."""
    manager = checkpoint.ocp.CheckpointManager
    original = manager._finalize

    def full(self, step, *args):
        if step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(manager, "_finalize", full)
        with pytest.raises(UserError, match="cannot be written to .*: the disk is full; the checkpoints before it are"):
            train(config, tmp_path, tiny_arrays)
    assert "Traceback" not in capfd.readouterr().err
    train(config, tmp_path, tiny_arrays)
    assert [record["epoch"] for record in history(tmp_path)] == [0, 1, 2]


def test_before_the_first_step_there_is_nothing_to_save(config, tiny_arrays, tmp_path):
    class Building(c.Callback):
        def build(self):
            send("SIGHUP")

    with pytest.raises(Interrupted, match="stopped at once") as end:
        train(c.Config(**vars(config) | {"callbacks": (Building(),)}), tmp_path, tiny_arrays)
    assert end.value.status == RESTART


def test_what_is_ignored_stays_ignored(config, tiny_arrays, tmp_path):
    """As nohup makes a terminal's hang-up."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        train(
            c.Config(**vars(config) | {"epochs": 2}),
            tmp_path,
            tiny_arrays,
            callbacks=[At("step", 1, lambda: send("SIGHUP"))],
        )
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_handles_no_signals():
    seen = []

    def look():
        with interruption.handled() as signals:
            seen.append((signals.handles, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))]


CONFIG = """
import os, time
import imgcls_jax as ic
from imgcls_jax import config as c

BLOCK = os.environ.get("BLOCK")

def block(moment):
    if BLOCK == moment:
        print("now", flush=True)
        time.sleep(300)

class Blocking(c.Callback):
    def build(self):
        block("building")
        return Watch()

def get_config(variant=""):
    block("importing")
    return c.Config(
        name="tiny", data=c.Data(source=c.Arrays("arrays.npz"), canvas=c.Canvas(8, 8), image_size=(8, 8),
                                 mean=(0.5,) * 3, std=(0.25,) * 3),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(), optim=c.Optim(c.SGD(), c.Schedule(0.05, c.Constant())), batch_size=16, epochs=3,
        precision="fp32", seed=0, augment=(), callbacks=(Blocking(),), logging=c.Logging(tensorboard=False))

class Watch(ic.Callback):
    def on_step(self, run):
        if run.step == 6:
            block("training")
            while BLOCK == "stuck":
                try:
                    block("stuck")
                except BaseException:
                    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "names", "status"),
    [
        ("importing", ["SIGTERM"], RESTART),
        ("importing", ["SIGINT"], 130),
        ("building", ["SIGUSR1"], RESTART),
        ("training", ["SIGTERM", "SIGTERM"], RESTART),
        # Within the grace of some seconds.
        pytest.param("stuck", ["SIGHUP", "SIGHUP"], RESTART, marks=pytest.mark.deep),
        ("stuck", ["SIGINT", "SIGINT", "SIGINT"], 130),
    ],
)
def test_the_exit_status_of_a_command(moment, names, status, tiny_arrays, tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    np.savez(tmp_path / "arrays.npz", **tiny_arrays)
    process = subprocess.Popen(
        [sys.executable, "-m", "imgcls_jax", "train", "--config", "c.py", "--workdir", "run"],
        cwd=tmp_path,
        env=os.environ
        | {
            "BLOCK": moment,
            "XLA_FLAGS": "--xla_backend_optimization_level=1",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.stdout.readline().strip() != "now":
        assert process.poll() is None, process.stderr.read()
    for name in names:
        process.send_signal(getattr(signal, name))
        time.sleep(0.3)
    assert process.wait(timeout=60) == status
    assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_images_that_vanish_while_they_are_streamed(tiny_config, tiny_arrays, tmp_path, capfd):
    """End the run in one sentence, with all its checkpoints; once they are back, it goes on exactly."""
    folder = tmp_path / "images"
    for i, (image, label) in enumerate(zip(tiny_arrays["x_train"], tiny_arrays["y_train"], strict=True)):
        path = folder / "train" / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    settings = {"source": Folder(str(folder)), "feed": "streamed", "cache_gib": 0.0}
    config = tiny_config(epochs=3, save_every_steps=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **settings))
    train(config, tmp_path / "whole", None)

    at = At("step", 5, lambda: folder.rename(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"was readable when the run began and no longer is: there is no such file"):
        train(config, tmp_path / "run", None, callbacks=[at])
    until = time.monotonic() + 10
    while (
        reading := [thread.name for thread in threading.enumerate() if "grain" in thread.name]
    ) and time.monotonic() < until:
        gc.collect()  # they end with what reads ahead
    assert reading == []
    assert "Traceback" not in capfd.readouterr().err
    assert list((tmp_path / "run" / "checkpoints").glob("*tmp*")) == []

    (tmp_path / "elsewhere").rename(folder)
    train(config, tmp_path / "run", None)
    assert_same(final_params(tmp_path / "run"), final_params(tmp_path / "whole"))
