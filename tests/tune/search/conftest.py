"""Workers of a search: as processes of their own, and a training that is invented."""

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.tune.search import search as worker

CONFIG = """
from imgcls_jax import config as c


def get_config(variant=""):
    return c.Config(
        name="digits",
        data=c.Data(
            source=c.Arrays("{images}"), canvas=c.Canvas(8, 8, channels=1), image_size=(8, 8), mean=(0.3,), std=(0.37,),
            validation_share=0.2,
        ),
        augment=(),
        model=c.CNN(convs=(c.Conv(4, 3, pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=1e-2, shape=c.Constant())),
        batch_size=64, epochs=2, precision="fp32", seed=0, mesh=c.Mesh(devices=1),
        logging=c.Logging(tensorboard=False, predictions=False),
    )
"""


@pytest.fixture
def digits_file(tmp_path) -> Path:
    """A config file of 320 handwritten digits, of which a trial takes some seconds."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images[:320] * (255 / 16)).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", x_train=images, y_train=digits.target[:320])
    (tmp_path / "digits.py").write_text(CONFIG.format(images=tmp_path / "digits.npz"))
    return tmp_path / "digits.py"


@pytest.fixture
def start_worker(tmp_path, digits_file):
    """Start a worker of the search in tmp_path/search as a process of its own; all end with the test."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "imgcls_jax", "tune", "search", "--config", str(digits_file), *arguments]
        command += ["--space", "optim.schedule.peak=log(1e-3,1)", "--workdir", str(tmp_path / "search")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[3]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _postgres(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL, which refuses to serve as root."""
    as_other = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_other, program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/tmp"
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database of a PostgreSQL server that lives as long as the test."""
    places = [os.environ.get("PATH", ""), *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    initdb, pg_ctl = (shutil.which(name, path=os.pathsep.join(places)) for name in ("initdb", "pg_ctl"))
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL needed: initdb and pg_ctl are in none of the usual places")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:  # a socket's path must be short
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        data, options = f"{folder}/data", f"-p {port} -h 127.0.0.1 -k {folder} -F"
        _postgres(initdb, "-D", data, "-U", "me", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8")
        _postgres(pg_ctl, "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            _postgres(pg_ctl, "-D", data, "-w", "-m", "immediate", "stop")


@pytest.fixture
def invented(monkeypatch):
    """Training is replaced by a function of the config that returns the metric, or raises; returns how to set it."""

    def use(score):
        def train(config: c.Config, workdir: Path, **_):
            value = score(config, workdir)
            figures = {"top1": value, "loss": 1 - value, "count": 10.0}
            return {"stopped": None, "best_epoch": 0, "history": [{"epoch": 0, "validation": figures}]}

        monkeypatch.setattr(worker.loop, "train", train)

    return use
