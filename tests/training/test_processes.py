"""Several processes of one run, for real: they compute what one does, and stop, fail and die together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from test_loop import assert_same, final_params
from test_resume import history

pytestmark = pytest.mark.slow

CONFIG = """
import os, time
import imgcls_jax as ic
from imgcls_jax import config as c

class Watching(c.Callback):
    def build(self):
        return Watch()

class Watch(ic.Callback):
    def on_step(self, run):
        if run.step == int(os.environ.get("SLOW_FROM", 10**9)):
            print("now", flush=True)
        if run.step >= int(os.environ.get("SLOW_FROM", 10**9)):
            time.sleep(0.2)

def get_config(variant=""):
    return c.Config(
        name="tiny", data=c.Data(source=c.Arrays(os.environ.get("ARRAYS", "arrays.npz")), canvas=c.Canvas(8, 8),
                                 image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, feed=variant or "resident"),
        model=c.CNN(convs=(c.Conv(int(os.environ.get("FILTERS", 4)), 3, padding=1, norm="batch", pool=2),),
                    aggregate="flatten", head=c.Head()),
        mesh=c.Mesh(fsdp=int(os.environ.get("FSDP", 1))), bn_group=int(os.environ.get("BN_GROUP", 0)) or None,
        loss=c.CrossEntropy(), optim=c.Optim(c.SGD(momentum=0.9), c.Schedule(0.02, c.Constant())), batch_size=24,
        epochs=7, max_steps=20, precision="fp32", seed=0, augment=(c.HorizontalFlip(),), callbacks=(Watching(),),
        logging=c.Logging(tensorboard=False))
"""


@pytest.fixture(scope="module")
def folder(tiny_arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "c.py").write_text(CONFIG)
    np.savez(folder / "arrays.npz", **tiny_arrays)
    return folder


@pytest.fixture(scope="module")
def launch(folder):
    """Starts processes of one run, and ends what is left of them."""
    started = []

    def start(count, workdir, *, devices=1, feed="resident", each=None, **environ):
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_backend_optimization_level=1 --xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **environ,
        }
        command = [sys.executable, "-m", "imgcls_jax", "train", "--config", f"c.py:{feed}", "--workdir", workdir]
        processes = []
        for i in range(count):
            place = ["--coordinator", f"localhost:{port}", "--num-processes", f"{count}", "--process-id", f"{i}"]
            processes.append(
                subprocess.Popen(
                    command + (place if count > 1 else []),
                    cwd=folder,
                    env=environment | (each or {}).get(i, {}),
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    restore_signals=True,
                )
            )
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until_training(processes):
    for process in processes:
        while (line := process.stdout.readline()).strip() != "now":
            assert line, process.stderr.read()


def ends(processes, timeout=200):
    """[(status, stderr)] of processes that end within a time."""
    deadline = time.monotonic() + timeout
    return [(p.returncode, text) for p in processes for text in [p.communicate(timeout=deadline - time.monotonic())[1]]]


@pytest.fixture(scope="module")
def whole(launch, folder):
    """Makes the run of so many processes that nothing disturbs, once."""

    def of(count):
        workdir = folder / f"whole_{count}"
        if not workdir.exists():
            assert [status for status, _ in ends(launch(count, workdir.name))] == [0] * count
        return workdir

    return of


@pytest.mark.parametrize(
    ("count", "devices", "feed"),
    [
        (2, 2, "resident"),
        pytest.param(4, 1, "streamed", marks=pytest.mark.deep),
        pytest.param(2, 1, "streamed", marks=pytest.mark.deep),
        pytest.param(4, 1, "resident", marks=pytest.mark.deep),
        pytest.param(4, 2, "streamed", marks=pytest.mark.deep),
    ],
)
def test_several_processes_compute_what_one_does(count, devices, feed, launch, whole, folder):
    """20 steps; 21 and 27 images to evaluate, which no number of devices divides."""
    workdir = folder / f"{count}_{devices}"
    assert [status for status, _ in ends(launch(count, workdir.name, devices=devices, feed=feed))] == [0] * count
    assert_same(final_params(whole(1)), final_params(workdir), rtol=0, atol=1e-5)
    one, several = (json.loads((run / "result.json").read_text()) for run in (whole(1), workdir))
    assert one["test"]["top1"] == several["test"]["top1"]
    assert one["test"]["loss"] == pytest.approx(several["test"]["loss"], abs=1e-5)
    assert [record["step"] for record in several["history"]] == [3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize(
    ("signaled", "name", "status"),
    [
        ([1], "SIGTERM", 75),
        pytest.param([0], "SIGINT", 130, marks=pytest.mark.deep),
        pytest.param([0, 1, 2], "SIGTERM", 75, marks=pytest.mark.deep),
    ],
)
def test_one_agreed_stop(signaled, name, status, launch, whole, folder):
    """All save the same step and end with the same status; the next start goes on from there, and ends alike."""
    workdir = folder / f"{name}_{len(signaled)}"
    processes = launch(3, workdir.name, SLOW_FROM="6")
    until_training(processes)
    for i in signaled:
        processes[i].send_signal(getattr(signal, name))
    ended = ends(processes)
    assert [code for code, _ in ended] == [status] * 3, ended
    assert not any("Traceback" in text or "error" in text for _, text in ended)
    newest = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert newest >= 6
    assert [code for code, _ in ends(launch(3, workdir.name))] == [0] * 3
    assert_same(final_params(whole(3)), final_params(workdir))
    assert history(whole(3)) == history(workdir)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("before", "after", "split"),
    [
        (2, 1, {}),
        (1, 4, {}),
        (4, 2, {}),
        (2, 1, {"FILTERS": "256", "FSDP": "2"}),
        (1, 2, {"FILTERS": "256", "FSDP": "2"}),
    ],
)
def test_a_run_goes_on_with_other_processes(before, after, split, launch, folder):
    """Stopped with parameters split among processes and going on with whole ones, and the other way around, too."""
    name = f"moved_{before}_{after}_{len(split)}"
    filters = {key: value for key, value in split.items() if key == "FILTERS"}

    def settings(count):
        return split if count > 1 else filters

    processes = launch(before, name, SLOW_FROM="6", **settings(before))
    until_training(processes)
    processes[-1].send_signal(signal.SIGTERM)
    assert [status for status, _ in ends(processes)] == [75] * before
    assert [status for status, _ in ends(launch(after, name, **settings(after)))] == [0] * after
    undisturbed = folder / f"undisturbed_{'_'.join(filters)}"
    if not undisturbed.exists():
        assert [status for status, _ in ends(launch(1, undisturbed.name, **filters))] == [0]
    assert_same(final_params(undisturbed), final_params(folder / name), rtol=0, atol=1e-5)


@pytest.mark.deep
def test_batch_norm_by_itself_on_each_process(launch, whole, folder):
    """As on the devices of one process, and other than over the whole batch."""
    for count, devices in ((1, 2), (2, 1)):
        ended = ends(launch(count, f"groups_{count}", devices=devices, BN_GROUP="1"))
        assert [status for status, _ in ended] == [0] * count, ended
    one, two = (final_params(folder / f"groups_{count}") for count in (1, 2))
    assert_same(one, two, rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        assert_same(final_params(whole(1)), one, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dead", [pytest.param(0, marks=pytest.mark.deep), 2])
def test_the_death_of_one_ends_all_with_its_name(dead, launch):
    processes = launch(3, f"without_{dead}", SLOW_FROM="6")
    until_training(processes)
    processes[dead].kill()
    others = ends([process for i, process in enumerate(processes) if i != dead], timeout=30)
    for status, text in others:
        assert status == 1
        lines = [line for line in text.splitlines() if line]
        assert len(lines) == 1 and lines[0].startswith(f"error: process {dead} on ") and "died" in lines[0], text


@pytest.mark.parametrize(("wrong", "message"), [(0, "used is no run's and holds notes.txt"), (1, "none.npz")])
def test_a_mistake_in_one_is_the_one_line_of_all(wrong, message, launch, folder):
    """A work directory that is not a run's, which process 0 finds; a file that process 1 alone lacks."""
    if wrong == 0:
        (folder / "used").mkdir()
        (folder / "used" / "notes.txt").touch()
    processes = launch(2, "arrays" if wrong else "used", each={wrong: {"ARRAYS": "none.npz"}} if wrong else None)
    ended = ends(processes)
    assert [status for status, _ in ended] == [2, 2], ended
    lines = {line for _, text in ended for line in text.splitlines() if line}
    assert len(lines) == 1, lines
    assert (line := lines.pop()).startswith("error: ") and message in line


def test_a_process_that_does_not_come_is_missed():
    command = [sys.executable, "-m", "imgcls_jax", "train", "--config", "configs/digits_cnn.py"]
    place = ["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "1", "--join-timeout", "1"]
    ended = subprocess.run([*command, *place], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: process 1 did not reach the first one at localhost:1 within 1 s (Connection")


@pytest.mark.parametrize("name", ["evaluate", "tune", "report"])
def test_other_commands_are_the_work_of_one_process(name):
    ended = subprocess.run(
        [sys.executable, "-m", "imgcls_jax", name, "--help"],
        env=os.environ | {"SLURM_STEP_NUM_TASKS": "2"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert f"{name} is the work of one process, and this is one of several: start it once" in ended.stderr
