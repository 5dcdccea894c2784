"""The command on a table of tiny experiments."""

import json
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import SCHEMA
from imgcls_jax.tune.ablation import repeats
from imgcls_jax.tune.ablation.repeats import Outcome
from reproduction import __main__ as command
from reproduction import budget, rows, write
from reproduction.rows import Reported, Row

TABLE = (
    Row(
        "T1",
        "tiny.py",
        "a first",
        (Reported(0.5, "best validation"), Reported(0.4, "test"), Reported(0.3, "distorted test")),
    ),
    Row("T2", "tiny.py:no_data", "without data", (Reported("about 70 %", "unstated split"),)),
    Row("T3", "tiny.py:from_first", "from the first", starts_from="T1"),
    Row("T4", "tiny.py:nan", "too high a rate", (Reported(0.1, "validation"),)),
    Row("U1", None, "a check", note="It is among the tests."),
)
CONFIG = """
import dataclasses
from imgcls_jax import config as c

def get_config(variant=""):
    rate = 1e30 if variant == "nan" else 0.05
    transfer = c.Transfer("runs/elsewhere", replace=("head.*",)) if variant == "from_first" else c.Transfer()
    return c.Config(
        name="tiny",
        data=c.Data(
            source=c.Folder("nowhere") if variant == "no_data" else c.Arrays("images.npz"),
            canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        ),
        augment=(), transfer=transfer,
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=rate, shape=c.Exponential(0.9))),
        batch_size=16, epochs=4, precision="fp32", seed=5, mesh=c.Mesh(devices=1), logging=c.Logging(tensorboard=False),
    )
"""
DRAW = write.row_curves, write.report_curves


@pytest.fixture(autouse=True)
def _table(tmp_path, tiny_arrays, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.py").write_text(CONFIG)
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "ROWS", TABLE)


@pytest.fixture
def invented(monkeypatch):
    """Training is replaced by a record of invented scores; returns the (config, folder) asked for."""
    asked = []

    def train(config, workdir, **_):
        asked.append((config, workdir))
        if repeats.is_finished(config, workdir):
            return Outcome(workdir, {}, None)
        if config.optim.schedule.peak > 1:
            return Outcome(workdir, None, "the loss is NaN or infinite in epoch 1")
        (workdir / "checkpoints" / "4").mkdir(parents=True)
        top1 = 0.5 + 0.1 * (config.seed - 5)
        history = [
            {
                "schema": SCHEMA,
                "kind": "epoch",
                "epoch": i,
                "step": 4 * i + 4,
                "learning_rate": 0.1,
                "evaluators": {},
                "images_per_second": 1.0,
                "waited_for_data": 0.0,
                "train": {"top1": top1, "loss": 1},
                "validation": {"top1": top1 - 0.01 * i, "loss": 1},
                "seconds": 2.0,
            }
            for i in range(config.epochs)
        ]
        result = {
            "schema": SCHEMA,
            "validation": history[0]["validation"],
            "test": {"top1": top1 - 0.2},
            "seconds": 2.0,
            "epochs": config.epochs,
            "workdir": str(workdir),
            "evaluators": {},
            "best_epoch": 0,
            "stopped": None,
            "history": history,
        }
        (workdir / "config.json").write_text(json.dumps(files.document(config)))
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
        (workdir / "result.json").write_text(json.dumps(result))
        return Outcome(workdir, result, None)

    monkeypatch.setattr(repeats, "train", train)
    for name in ("row_curves", "report_curves"):  # they take a second
        monkeypatch.setattr(write, name, lambda root, which: None)
    return asked


def documents():
    part = {row["id"]: row for row in json.loads(Path("out/reproduction.json").read_text())["rows"]}
    return part, Path("out/reproduction.md").read_text()


def test_all_rows(invented, monkeypatch, capsys):
    for draw in DRAW:
        monkeypatch.setattr(write, draw.__name__, draw)
    with pytest.raises(
        UserError, match=r"^T4 not finished: out/reproduction\.md says why; the same command tries again$"
    ):
        command.main(["--workdir", "out", "--seeds", "2"])
    said = capsys.readouterr().out
    assert "T2 is left out: data.source.path nowhere does not exist" in said  # no failure: its data is not here
    assert "T4 is not finished: Seed 5: the loss is NaN" in said
    assert [(str(folder), config.seed) for config, folder in invented] == [
        ("out/T1/seed_5", 5), ("out/T1/seed_6", 6),
        ("out/T3/seed_5", 5), ("out/T3/seed_6", 6),
        ("out/T4/seed_5", 5), ("out/T4/seed_6", 6),
    ]  # fmt: skip
    assert [config.transfer.init_from for config, _ in invented[2:4]] == ["out/T1/seed_5", "out/T1/seed_6"]
    part, text = documents()
    assert part["T1"]["ours"]["best validation"] == {
        "mean": pytest.approx(0.55), "std": pytest.approx(np.std([0.5, 0.6], ddof=1)), "by_seed": {"5": 0.5, "6": 0.6},
    }  # fmt: skip
    assert part["T1"]["ours"]["validation"]["mean"] == pytest.approx(0.52)
    assert part["T1"]["ours"]["test"]["mean"] == pytest.approx(0.35)
    assert part["T1"]["changed"] == part["T3"]["changed"] == []
    assert part["T4"]["problems"] == [f"Seed {seed}: the loss is NaN or infinite in epoch 1." for seed in (5, 6)]
    assert "nowhere does not exist" in part["T2"]["problems"][0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["T1", "a first", "best validation", "50.00 %", "55.00 ± 7.07 %", "2", "4", "none"] in lines
    assert ["T1", "a first", "distorted test", "30.00 %", "not measured here", "2", "4", "none"] in lines
    assert ["T3", "from the first", "test", "", "35.00 ± 7.07 %", "2", "4", "none"] in lines
    assert "It is among the tests.\n\n- U1: a check\n" in text
    assert "- T2: without data (reported: unstated split about 70 %)\n" in text
    for name in ("T1", "T3", "T_side_by_side", "T_together"):
        assert f"(curves/{name}.png)" in text
        assert Path(f"out/curves/{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "curves/T4.png" not in text


def test_calls_for_different_rows_add_up(invented):
    with pytest.raises(UserError, match="^T4 not finished"):
        command.main(["T4", "--workdir", "out"])
    command.main(["T1", "--workdir", "out", "--config.epochs=2"])
    part, text = documents()
    assert part["T4"]["problems"] == ["Seed 5: the loss is NaN or infinite in epoch 1."]
    assert part["T1"]["epochs"] == [2]
    assert part["T1"]["changed"] == ["epochs: 4 → 2"]
    assert "- `epochs: 4 → 2`" in text
    assert "epochs: 4 → 2 |" in text
    assert "Not asked for yet: T2, T3." in text  # T2


@pytest.mark.parametrize("epochs", [["--config.epochs=3"], ["--config.epochs", "3"]])
def test_one_setting_changes_in_every_row(invented, epochs):
    command.main([*epochs, "T1", "T3", "--workdir", "out"])
    assert [config.epochs for config, _ in invented] == [3, 3]
    assert documents()[0]["T1"]["changed"] == ["epochs: 4 → 3"]


def test_a_row_that_was_asked_for_by_name_needs_its_data(invented):
    with pytest.raises(UserError, match="^T2 not finished"):
        command.main(["T1", "T2", "--workdir", "out"])
    assert documents()[0]["T1"]["problems"] == []


def test_rows_whose_data_is_missing_are_no_failure(invented, monkeypatch):
    monkeypatch.setattr(rows, "ROWS", TABLE[:3])
    command.main(["--workdir", "out"])
    assert "nowhere does not exist" in documents()[0]["T2"]["problems"][0]


def test_a_row_waits_for_the_row_that_it_starts_from(invented):
    with pytest.raises(UserError, match="^T3 not finished"):
        command.main(["T3", "--workdir", "out"])
    assert invented == []
    part, _ = documents()
    assert part["T3"]["problems"] == [
        "Seed 5: it starts from T1, which is not finished in out/T1/seed_5: run that row first."
    ]
    command.main(["T1", "T3", "--workdir", "out"])
    assert documents()[0]["T3"]["problems"] == []


def test_a_budget_shrinks_what_does_not_fit(invented, monkeypatch):
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda config: 30.0)
    command.main(["T1", "--workdir", "out", "--budget-minutes", "1.1"])
    part, text = documents()
    assert part["T1"]["epochs"] == [2]
    assert part["T1"]["changed"] == ["optim.schedule.shape.factor: 0.9 → 0.81", "epochs: 4 → 2"]
    command.main(["T1", "--workdir", "out", "--seeds", "2"])  # a row that was begun keeps its epochs
    assert documents()[0]["T1"]["epochs"] == [2, 2]
    with pytest.raises(UserError, match="^T3 not finished"):
        command.main(["T3", "--workdir", "out", "--budget-minutes", "0.4"])
    assert documents()[0]["T3"]["problems"] == ["The budget leaves no time for an epoch of each seed, 30.0 s each."]


def test_a_budget_that_is_large_enough_changes_nothing(invented, monkeypatch):
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda config: 1.0)
    command.main(["T1", "T3", "--workdir", "out", "--budget-minutes", "10"])
    part, _ = documents()
    assert part["T1"]["changed"] == part["T3"]["changed"] == []


def test_timing_that_fails_is_recorded(invented, monkeypatch):
    def fail(config):
        raise UserError("no memory")

    monkeypatch.setattr(budget, "seconds_per_epoch", fail)
    with pytest.raises(UserError, match="^T1 not finished"):
        command.main(["T1", "--workdir", "out", "--budget-minutes", "10"])
    assert documents()[0]["T1"]["problems"] == ["no memory."]
    assert invented == []


def test_list(capsys):
    command.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["row", "data", "weights", "config", "what"]
    assert lines[1].split(maxsplit=3) == ["T1", "here", "configs/tiny.py", "a first"]
    assert lines[2].split(maxsplit=3) == ["T2", "missing", "configs/tiny.py:no_data", "without data"]
    assert lines[3].split(maxsplit=3) == ["T3", "here", "row", "T1   configs/tiny.py:from_first  from the first"]
    assert lines[5].split() == ["U1", "a", "check"]
    assert lines[7].startswith("T2: data.source.path nowhere does not exist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds: must be a whole number of at least 1, not '0'"),
        (["--budget-minutes", "0"], "--budget-minutes: must be a number above 0, not '0'"),
        (["X9"], "there is no row X9"),
        (["--budget"], r'has no flag --budget \(did you mean "--budget-minutes"\?\)'),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        command.main(arguments)


@pytest.mark.slow
def test_for_real():
    """One row trains, one goes on from it, one has no finite loss; a second call trains nothing."""
    with pytest.raises(UserError, match="^T4 not finished"):
        command.main(["--workdir", "out", "--seeds", "2", "--config.data.feed=resident"])
    part, text = documents()
    assert part["T1"]["ours"]["test"]["mean"] > 0.6  # chance is 0.33
    assert len(part["T3"]["seeds"]) == 2
    assert part["T1"]["changed"] == ["data.feed: 'auto' → 'resident'"]
    assert "the loss is NaN or infinite in epoch 1" in part["T4"]["problems"][0]
    assert "cores" in text
    before = Path("out/reproduction.json").read_text()
    command.main(["T1", "T3", "--workdir", "out", "--seeds", "2", "--config.data.feed=resident"])
    assert Path("out/reproduction.json").read_text() == before

    Path("out/T1/seed_6/result.json").unlink()  # as if killed after the last epoch
    command.main(["T1", "--workdir", "out", "--seeds", "2", "--config.data.feed=resident"])
    part, _ = documents()
    assert part["T1"]["ours"] == json.loads(before)["rows"][0]["ours"]
