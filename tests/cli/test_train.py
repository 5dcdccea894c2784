"""`imgcls train DATA`: what it writes, how it goes on, and that the written config is the whole of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_loop import assert_same, final_params

from imgcls_jax import config as c
from imgcls_jax.cli import train
from imgcls_jax.config import io
from imgcls_jax.errors import UserError
from imgcls_jax.training import loop
from imgcls_jax.tune.batch import Trial
from imgcls_jax.tune.suggest import budget

STEER = ["--model", "small", "--size", "8", "--config.logging.tensorboard=False"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two classes of small images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_run_its_config_and_more_epochs(photos, capsys):
    train.main(["photos", *STEER, "--epochs", "1"])
    shown = " ".join(capsys.readouterr().out.split())
    for said in ("2, of 20 to 20 training images", "CNN: as asked", "written to runs/photos/config.py"):
        assert said in shown
    text = Path("runs/photos/config.py").read_text()
    assert "# as asked\n        epochs=1," in text
    assert f" photos {' '.join(STEER)} --epochs 1` asked" in text

    # The file alone gives the same run.
    train.main(["--config", "runs/photos/config.py", "--workdir", "runs/again"])
    assert_same(final_params(Path("runs/photos")), final_params(Path("runs/again")))

    # More epochs go on from there.
    before = (Path("runs/photos") / "metrics.jsonl").read_text()
    train.main(["./photos/", *STEER, "--epochs", "2"])
    assert "epochs grow from 1 to 2" in " ".join(capsys.readouterr().out.split())
    after = (Path("runs/photos") / "metrics.jsonl").read_text()
    assert after.startswith(before)
    assert after.count('"kind": "epoch"') == 2
    assert io.load("runs/photos/config.py") == io.restore("runs/photos/config.json")

    # The same again has nothing left to train.
    train.main(["photos"])
    assert "going on with runs/photos/config.py" in capsys.readouterr().out
    assert (Path("runs/photos") / "metrics.jsonl").read_text() == after

    # Anything else is another run.
    for changed, message in (
        (["photos", *STEER, "--epochs", "1"], "holds a run of another config"),
        (["photos", *STEER, "--epochs", "2", "--lr", "0.1"], "optim.schedule.peak: 0.003 → 0.1"),
        ([str(photos / "cat"), "--workdir", "runs/photos"], "holds a run on other images"),
    ):
        with pytest.raises(UserError, match=message):
            train.main(changed)
    Path("runs/photos/config.py").write_text(Path("runs/photos/config.py").read_text().replace("seed=0", "seed=1"))
    with pytest.raises(UserError, match="seed: 0 → 1"):
        train.main(["photos"])
    with pytest.raises(UserError, match=r"config.py was changed since its run began \(seed: 0 → 1\)"):
        train.main(["photos", *STEER, "--epochs", "2"])


def test_a_table_its_mistakes_and_a_fresh_start(photos, monkeypatch):
    trained = []
    monkeypatch.setattr(loop, "train", lambda config, workdir, **_: trained.append((config, workdir)))
    rows = [f"{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(20)]
    Path("labels.csv").write_text("\n".join(["file,label", *rows, "dog/20.png,dog"]))
    command = ["photos", "--csv", "labels.csv", *STEER, "--epochs", "1"]
    with pytest.raises(UserError, match=r"1 of 41 rows .* all are listed in runs/photos/bad_rows.csv"):
        train.main(command)
    assert "dog/20.png" in Path("runs/photos/bad_rows.csv").read_text()
    Path("labels.csv").write_text("\n".join(["file,label", *rows]))
    for folder in ("photos", "photos/run", "."):
        with pytest.raises(UserError, match="share a folder: choose another --workdir"):
            train.main([*command, "--workdir", folder, "--overwrite"])
    train.main(command)
    config, workdir = trained.pop()
    assert config.data.source == c.Table(str(photos.parent / "labels.csv"), folder=str(photos))
    assert io.load(workdir / "config.py") == config == io.restore(workdir / "config.json")
    (workdir / "checkpoints" / "5").mkdir(parents=True)
    train.main([*command[:-1], "2", "--overwrite"])
    assert io.load("runs/photos.old1/config.py") == config
    assert io.load("runs/photos/config.py").epochs == 2


@pytest.mark.parametrize(
    ("seconds", "speed", "expected"),
    [
        (1000, 1.0, 24),  # 900 s, less 3 s for reading, compiling twice and the test; 36 images an epoch
        (1000, 100.0, 60),  # twice the 30 of the config
        (30, 1.0, "a budget of 30.0 s is too short: at 1 images per second"),
    ],
)
def test_a_budget(tiny_config, tiny_arrays, tmp_path, monkeypatch, seconds, speed, expected):
    arrays = {f"{letter}_train": tiny_arrays[f"{letter}_train"][:36] for letter in "xy"}
    np.savez(tmp_path / "images.npz", **arrays)
    data = dataclasses.replace(tiny_config().data, source=c.Arrays(str(tmp_path / "images.npz")))

    class Timed:
        def __init__(self, *_):
            pass

        def __call__(self, batch_size):
            return Trial(batch_size, 1, None, speed, "fits")

    monkeypatch.setattr(budget, "Trials", Timed)
    clock = iter((0.0, 1.0, 2.0)).__next__
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            budget.fit(tiny_config(data=data, epochs=30), seconds, clock=clock)
    else:
        config, why = budget.fit(tiny_config(data=data, epochs=30), seconds, clock=clock)
        assert config.epochs == expected
        assert why.startswith("within 16 min 40 s: at ")
