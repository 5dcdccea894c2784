"""Workers of a search: as processes of their own, and a training that is invented."""

import subprocess
import sys
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
        process.communicate()


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
