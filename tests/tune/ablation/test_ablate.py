"""Ablations: the tables from invented scores, and a real one on handwritten digits."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.cli import ablate as command
from imgcls_jax.errors import UserError
from imgcls_jax.tune.ablation import repeats
from imgcls_jax.tune.ablation.ablate import ablate
from imgcls_jax.tune.ablation.repeats import Outcome

FACTORS = {
    "wide": lambda config: dataclasses.replace(config, batch_size=8),
    "long": lambda config: dataclasses.replace(config, epochs=5),
}
SCORES = {  # cell → accuracy of the seeds 3, 4 and 5
    "baseline": (0.50, 0.60, 0.55),
    "wide": (0.60, 0.70, 0.65),
    "long": (0.55, 0.61, 0.58),
    "wide+long": (0.70, 0.80, 0.75),
}


@pytest.fixture
def invented(monkeypatch):
    """Training is replaced by SCORES; returns the work directories asked for."""
    asked = []

    def train(config, workdir, **_):
        asked.append(workdir)
        score = SCORES[workdir.parent.name][config.seed - 3]
        if score is None:
            return Outcome(workdir, None, "the loss is NaN")
        return Outcome(workdir, {"test": {"top1": score}, "validation": None}, None)

    monkeypatch.setattr(repeats, "train", train)
    return asked


def test_tables(invented, tiny_config, tmp_path):
    document = ablate(tiny_config(seed=3), FACTORS, tmp_path, seeds=3)
    assert [str(path.relative_to(tmp_path)) for path in invented[:5]] == [
        "baseline/seed_3", "wide/seed_3", "long/seed_3", "wide+long/seed_3", "baseline/seed_4",
    ]  # fmt: skip
    assert json.loads((tmp_path / "ablation.json").read_text()) == json.loads(json.dumps(document))
    assert document["score"] == "test top-1 accuracy"
    assert document["cells"]["long"]["difference"]["mean"] == pytest.approx((0.05 + 0.01 + 0.03) / 3)
    # by hand: ((0.60 − 0.50) + (0.70 − 0.55)) / 2, and so on for the other seeds
    effects = [(0.10 + 0.15) / 2, (0.10 + 0.19) / 2, (0.10 + 0.17) / 2]
    assert document["main_effects"]["wide"]["mean"] == pytest.approx(np.mean(effects))
    text = (tmp_path / "ablation.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["long", "3", "58.00 ± 3.00", "+3.00", "−1.97 … +7.97"] in lines
    assert ["wide", "3", "+13.50"] in [line[:3] for line in lines]
    tex = (tmp_path / "ablation.tex").read_text()
    assert r"long & 3 & 58.00 $\pm$ 3.00 & +3.00 & $-$1.97 \dots{} +7.97 \\" in tex
    assert tex.count(r"\begin{tabular}") == 2
    assert (tmp_path / "ablation.png").stat().st_size > 1000


def test_one_at_a_time_has_no_main_effects_and_one_seed_no_interval(invented, tiny_config, tmp_path):
    document = ablate(tiny_config(seed=3), FACTORS, tmp_path, design="one_at_a_time")
    assert list(document["cells"]) == ["baseline", "wide", "long", "wide+long"]
    assert document["main_effects"] == {}
    assert document["cells"]["wide"]["difference"] == pytest.approx(
        {"mean": 0.1, "std": None, "interval_95": None, "seeds": 1}
    )
    text = (tmp_path / "ablation.md").read_text()
    assert "none: one seed" in text
    assert "With one seed there is no confidence interval: give --seeds 3 or more." in text
    assert "main effect" not in (tmp_path / "ablation.tex").read_text()


def test_a_failed_run_is_told_and_left_out(invented, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "wide", (None, 0.70, None))
    monkeypatch.setitem(SCORES, "long", (None, None, None))
    document = ablate(tiny_config(seed=3), FACTORS, tmp_path, seeds=3)
    assert document["cells"]["wide"]["difference"] == pytest.approx(
        {"mean": 0.1, "std": None, "interval_95": None, "seeds": 1}
    )
    assert document["cells"]["long"]["score"] is None
    assert document["main_effects"] == {"wide": None, "long": None}
    text = (tmp_path / "ablation.md").read_text()
    assert "wide, seed 5: the loss is NaN" in text
    assert "There are no main effects: no seed finished all cells." in text
    monkeypatch.setitem(SCORES, "baseline", (None, None, None))
    with pytest.raises(
        UserError, match="^no run of the baseline succeeded, so there is nothing to compare with: the loss is NaN$"
    ):
        ablate(tiny_config(seed=3), FACTORS, tmp_path, seeds=3)


def test_an_impossible_cell_is_found_before_anything_is_trained(invented, tiny_config, tmp_path):
    factors = FACTORS | {
        "bad": lambda config: dataclasses.replace(config, eval_batch_size=16, batch_size=7, mesh=c.Mesh(devices=2))
    }
    with pytest.raises(UserError, match="cannot be shared equally"):
        ablate(tiny_config(mesh=c.Mesh(devices=2)), factors, tmp_path)
    assert invented == []


def test_the_number_of_seeds(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(UserError, match="--seeds: must be a whole number of at least 1, not '0'"):
        command.main(["--config", "configs/digits_cnn.py", "--seeds", "0"])


CONFIG = """
import dataclasses
from imgcls_jax import config as c

def get_config(variant=""):
    return c.Config(
        name="digits",
        data=c.Data(
            source=c.Arrays("{images}"), canvas=c.Canvas(8, 8, channels=1), image_size=(8, 8), mean=(0.3,), std=(0.37,)
        ),
        augment=(),
        model=c.CNN(convs=(c.Conv(8, 3, pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.Adam(), schedule=c.Schedule(peak=1e-2, shape=c.Constant())),
        batch_size=32, epochs=4, precision="fp32", seed=0, mesh=c.Mesh(devices=1), logging=c.Logging(tensorboard=False),
    )

def with_batch_norm(config):
    convs = tuple(dataclasses.replace(conv, norm="batch") for conv in config.model.convs)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, convs=convs))

FACTORS = {{"bn": with_batch_norm}}
"""


@pytest.mark.slow
def test_digits(tmp_path, capsys, monkeypatch):
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    np.savez(
        tmp_path / "digits.npz",
        x_train=images[:640], y_train=digits.target[:640], x_test=images[640:], y_test=digits.target[640:],
    )  # fmt: skip
    (tmp_path / "digits.py").write_text(CONFIG.format(images=tmp_path / "digits.npz"))
    arguments = ["--config", str(tmp_path / "digits.py"), "--seeds", "2", "--workdir", str(tmp_path / "out")]
    command.main(arguments)
    document = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(document["cells"]) == ["baseline", "bn"]
    assert document["cells"]["bn"]["score"]["mean"] > 0.7  # chance is 0.1
    assert document["main_effects"]["bn"]["seeds"] == 2
    splits = {path.read_bytes() for path in Path(tmp_path / "out").glob("*/seed_*/split.json")}
    assert len(splits) <= 1, "paired runs have one split"
    capsys.readouterr()

    def train_again(*_, **__):
        raise AssertionError("a finished run is not trained again")

    monkeypatch.setattr(repeats.loop, "train", train_again)
    command.main(arguments)
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == document
    assert "Main effects" in capsys.readouterr().out
