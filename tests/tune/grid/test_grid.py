"""Grids: what they make of invented members, and real ones against runs."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.cli import tune
from imgcls_jax.errors import UserError
from imgcls_jax.training import loop
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.tune.grid import cells, grid
from imgcls_jax.tune.grid.members import Members

PEAK, DECAY = "optim.schedule.peak", "optim.optimizer.weight_decay"


class Program:
    """Stands in for `Members`: every member's loss is told by its rate and seed, and is NaN above a rate of 1."""

    def __init__(self, experiment, configs):
        self.configs = configs

    def initial_states(self):
        return States()

    def enter_phase(self, states, epoch, *, previous):
        return states, None

    def train(self, compiled, states, epoch, last):
        return states, np.array([config.optim.schedule.peak <= 1 for config in self.configs])

    def end_epoch(self, states, epoch):
        return states

    def validate(self, states, epoch):
        def figures(config):
            rate, seed = config.optim.schedule.peak, config.seed
            # The second of three epochs is the best one.
            return {"loss": abs(np.log10(rate) + 2) + abs(epoch - 1), "top1": 0.9 - 0.1 * seed, "count": 21}

        return [figures(config) for config in self.configs]


@dataclasses.dataclass
class States:
    metrics: tuple = ()

    def replace(self, **_):
        return self


@pytest.fixture
def invented(monkeypatch):
    monkeypatch.setattr(grid, "Members", Program)
    monkeypatch.setattr(grid, "_check_memory", lambda *_: None)
    monkeypatch.setattr(grid, "_train_figures", lambda states, members: [{"loss": 0.0}] * members)


def test_the_best_setting_and_what_is_written(invented, tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=3, best=c.Best("loss"))
    axes = cells.axes([f"{PEAK}=1e-3,1e-2,10"], config)
    told = []
    document = grid.train(config, axes, [0, 2], tmp_path / "out", arrays=tiny_arrays, tell=told.append)
    assert json.loads((tmp_path / "out" / "grid.json").read_text()) == json.loads(json.dumps(document))
    assert document["schema"] == 1 and document["metric"] == "loss" and document["best"] == 1
    means = [cell["mean"] for cell in document["cells"]]
    np.testing.assert_allclose(means[:2], [1, 0], atol=1e-12)
    assert means[2] is None and document["cells"][2]["members"][0]["ended"] == "diverged in epoch 1"
    assert {member["best_epoch"] for cell in document["cells"][:2] for member in cell["members"]} == {1}
    with open(tmp_path / "out" / "grid.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row[PEAK], row["seed"]) for row in rows[:3]] == [("1e-3", "0"), ("1e-3", "2"), ("1e-2", "0")]
    assert [row["state"] for row in rows] == ["finished"] * 4 + ["diverged in epoch 1"] * 2
    lines = [line.split() for line in grid.table(document, config).splitlines()]
    assert lines[0] == [PEAK, "seed", "0", "seed", "2", "mean", "loss", "mean", "top1"]
    # 0.9 and 0.7: their standard deviation is 0.2 / √2.
    assert lines[2] == ["1e-2", "0.0000", "0.0000", "0.0000", "±", "0.0000", "80.00", "±", "14.14", "%", "best"]
    assert lines[3] == ["10", *["diverged"] * 4]
    assert told[-1].startswith("epoch 3/3  best loss so far 0.0000")


def test_a_setting_that_diverged_under_one_seed_is_not_the_best(invented, tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=1)
    made = [cells.Cell({PEAK: value}, config) for value in ("a", "b")]
    members = [grid.Member(cell, config) for cell in made for _ in range(2)]
    for member, top1 in zip(members, (0.9, 0.9, 0.8, 0.8), strict=True):
        member.history.append({"validation": {"top1": top1, "loss": 1.0}, "evaluators": {}, "epoch": 0})
        member.best = 0
    assert grid._document(config, made, members, [0, 1])["best"] == 0
    members[0].diverged = True
    assert grid._document(config, made, members, [0, 1])["best"] == 1


def test_early_stopping_ends_a_member_as_it_ends_a_run(invented, tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=9, best=c.Best("loss"), early_stopping=c.EarlyStopping(patience=2))
    document = grid.train(config, {}, [0, 1], tmp_path, arrays=tiny_arrays)
    (cell,) = document["cells"]
    assert [member["epochs"] for member in cell["members"]] == [4, 4]
    assert cell["members"][0]["ended"] == "early_stopping after epoch 4" and cell["members"][0]["best_epoch"] == 1


def test_mistakes_of_data_and_memory(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    without = {name: array for name, array in tiny_arrays.items() if "validation" not in name}
    with pytest.raises(UserError, match="compares by validation images: set data.validation_share"):
        grid.train(tiny_config(), {}, [0], tmp_path, arrays=without)
    streamed = tiny_config(data=dataclasses.replace(tiny_config().data, feed="streamed"))
    with pytest.raises(UserError, match=r"keeps all images on the device, and these .* are streamed"):
        grid.train(streamed, {}, [0], tmp_path, arrays=tiny_arrays)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="runs in one process, on one device"):
        grid.train(tiny_config(), {}, [0], tmp_path, arrays=tiny_arrays)


def test_how_many_fit():
    assert grid._too_many(8, 8100, 8100, 100) is None
    assert "8 networks at once take" in (text := grid._too_many(8, 8100, 5600, 100)) and ": about 5 fit, give" in text
    assert grid._too_many(8, 8100, 600, 100).endswith(": not one fits, take a smaller batch_size")


class Keep(Callback):
    """Keeps the state of the newest epoch's end."""

    def on_epoch(self, run, record):
        self.state = jax.device_get((run.state.params, run.state.stats, run.state.average))


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.rint(loaded.images[:640] * (255 / 16)).astype(np.uint8)[..., None]
    arrays = {"x_train": images[:512], "x_validation": images[512:]}
    return arrays | {"y_train": loaded.target[:512], "y_validation": loaded.target[512:640]}


@pytest.fixture
def config(tiny_config):
    """Digits with augmentation of two phases, dropout, BatchNorm, weight decay, warm-up and an average."""
    gray = c.Data(source=c.Arrays(), canvas=c.Canvas(8, 8, channels=1), image_size=(8, 8), mean=(0.3,), std=(0.37,))
    schedule = c.Schedule(peak=0.05, warmup_epochs=1, shape=c.Cosine())
    optim = c.Optim(optimizer=c.SGD(momentum=0.9, weight_decay=1e-4), schedule=schedule, ema=c.EMA(0.9))
    return tiny_config(data=gray, augment=(c.PadCrop(1), c.HorizontalFlip(until_epoch=1)), optim=optim, batch_size=64)


def difference(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - np.asarray(b)).max()), one, other)))


def member_of(states, i):
    return jax.tree.map(lambda x: x[i], states)


def spy(kept, vmapped):
    """Members that keep the states of every epoch's end."""

    class Spy(Members):
        def __init__(self, *arguments):
            super().__init__(*arguments, vmapped=vmapped)

        def validate(self, states, epoch):
            kept[epoch] = jax.device_get((states.params, states.stats, states.average))
            return super().validate(states, epoch)

    return Spy


@pytest.mark.slow
def test_members_end_as_runs_of_their_own(config, digits, tmp_path, monkeypatch):
    axes = cells.axes([f"{PEAK}=0.02,0.1", f"{DECAY}=0,1e-2"], config)
    own = dataclasses.replace(cells.cells(config, axes, [3])[1].config, seed=3)
    assert (own.optim.schedule.peak, own.optim.optimizer.weight_decay) == (0.02, 0.01)
    callback = Keep()
    result = loop.train(own, tmp_path / "run", arrays=digits, callbacks=[callback], console=Console(silent=True))
    wanted = result["validation"]
    for vmapped in (False, True):  # as on a CPU, and as elsewhere
        kept = {}
        monkeypatch.setattr(grid, "Members", spy(kept, vmapped))
        document = grid.train(config, axes, [0, 3], tmp_path / "grid", arrays=digits)
        assert difference(member_of(kept[1], 3), callback.state) < 1e-5
        assert difference(member_of(kept[1], 2), callback.state) > 1e-2, "another seed"
        assert difference(member_of(kept[1], 1), callback.state) > 1e-4, "another weight decay"
        assert difference(member_of(kept[1], 7), callback.state) > 1e-2, "another rate"
        member = document["cells"][1]["members"][1]
        assert member["best_epoch"] == result["best_epoch"]
        assert member["validation"]["count"] == wanted["count"] == 128
        assert abs(member["validation"]["top1"] - wanted["top1"]) * 128 < 1.5
        np.testing.assert_allclose(member["validation"]["loss"], wanted["loss"], rtol=1e-4)


@pytest.mark.slow
def test_the_command(tiny_config, digits, tmp_path, capsys):
    from imgcls_jax.config import write as configs

    np.savez(tmp_path / "digits.npz", **digits)
    tiny = tiny_config(epochs=1)
    gray = c.Data(
        source=c.Arrays(str(tmp_path / "digits.npz")),
        canvas=c.Canvas(8, 8, channels=1),
        image_size=(8, 8),
        mean=(0.3,),
        std=(0.37,),
    )
    (tmp_path / "config.py").write_text(configs.python(dataclasses.replace(tiny, data=gray), "", {}))
    arguments = [
        "grid",
        "--config",
        str(tmp_path / "config.py"),
        "--config.batch_size=64",
        "--out",
        str(tmp_path / "o"),
    ]
    tune.main([*arguments, "--space", f"{PEAK}=1e-5,0.1", "--seeds", "4,5"])
    out = capsys.readouterr().out
    assert "4 networks in one program, " in out and "seed 5" in out
    assert f"imgcls train --config {tmp_path / 'config.py'} --config.batch_size=64 --config.{PEAK}=0.1" in out
    assert json.loads((tmp_path / "o" / "grid.json").read_text())["best"] == 1
