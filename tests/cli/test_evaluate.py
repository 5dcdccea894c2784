"""Evaluating a run again, with and without views."""

import dataclasses
import json
from typing import get_args

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.cli import evaluate as command
from imgcls_jax.cli import flags
from imgcls_jax.config.experiment import Views
from imgcls_jax.errors import UserError
from imgcls_jax.inference import evaluate
from imgcls_jax.training.loop import train


@pytest.fixture
def run(tiny_config, tiny_arrays, tmp_path):
    """A finished run whose test averages two views, and its result."""
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    settings = dataclasses.replace(tiny_config().data, source=c.Arrays(str(tmp_path / "images.npz")))
    result = train(tiny_config(data=settings, test_views="flip"), tmp_path / "run")
    return tmp_path / "run", result


def test_every_kind_of_views_can_be_asked_for():
    assert ("center", *get_args(Views)) == flags.VIEWS


@pytest.mark.slow
def test_it_repeats_training_s_figures_unless_views_are_asked_for(run, capsys):
    workdir, result = run
    evaluated = {}
    for views in (None, "center", "flip"):
        command.main(["--workdir", str(workdir), *([f"--views={views}"] if views else [])])
        evaluated[views] = json.loads((workdir / "evaluation.json").read_text())
    assert evaluated[None]["validation"] == result["validation"]
    assert evaluated[None]["test"] == result["test"]
    assert evaluated[None]["views"] == {"validation": "center", "test": "flip"}
    assert evaluated["center"]["validation"] == evaluated[None]["validation"]
    assert evaluated["flip"]["test"] == evaluated[None]["test"]
    for split, plain, averaged in (("test", "center", None), ("validation", None, "flip")):
        assert evaluated[plain][split]["loss"] != evaluated[averaged][split]["loss"]
        assert evaluated[averaged]["views"][split] == "flip"
    assert "test, flip averaged" in capsys.readouterr().out


def test_views_that_would_all_be_the_same_are_refused(tiny_config, run):
    with pytest.raises(UserError, match="test_views = 'ten_crop' would cut the same 8×8 pixels five times"):
        evaluate(tiny_config(transfer=c.Transfer(init_from=str(run[0]))), views="ten_crop")


def test_every_figure_has_an_interval_and_every_image_its_outputs(run, tiny_arrays, capsys):
    workdir, result = run
    command.main(["--workdir", str(workdir), "--views=center"])
    out = capsys.readouterr().out
    assert "95 % interval" in out and "most confused" in out
    found = json.loads((workdir / "evaluation.json").read_text())
    kept = np.load(workdir / "predictions_test.npz")
    assert (kept["logits"].shape, kept["labels"].tolist()) == ((27, 3), tiny_arrays["y_test"].tolist())
    assert (str(kept["views"]), len(set(kept["names"].tolist()))) == ("center", 27)
    right = (kept["logits"].argmax(1) == kept["labels"]).mean()
    accuracy = found["figures"]["test"]["overall"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right) == found["test"]["top1"]
    assert accuracy["low"] <= right <= accuracy["high"]
    assert set(found["figures"]) == {"validation", "test"}
    assert sum(row["images"] for row in found["figures"]["test"]["per_class"].values()) == 27


def test_a_folder_that_cannot_be_written_costs_no_figures(run, capsys):
    workdir, _ = run
    (workdir / "evaluation.json").mkdir()  # no file can take its place
    with pytest.raises(UserError, match="the figures above are not written to"):
        command.main(["--workdir", str(workdir)])
    assert "95 % interval" in capsys.readouterr().out


def test_the_result_of_a_run_is_not_overwritten(run):
    workdir, _ = run
    before = (workdir / "result.json").read_bytes()
    with pytest.raises(UserError, match=r"whose result\.json these figures would overwrite: give another folder"):
        command.main(["--config=configs/digits_cnn.py", f"--weights={workdir}", f"--workdir={workdir}"])
    assert (workdir / "result.json").read_bytes() == before
