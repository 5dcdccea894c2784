"""Evaluating a run again, with and without views."""

import dataclasses
import json

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.evaluate import __main__ as command
from imgcls_jax.train import train_and_evaluate


@pytest.fixture
def run(tiny_config, tiny_arrays, tmp_path):
    """A finished run whose test averages two views, and its result."""
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    settings = dataclasses.replace(tiny_config().data, source=c.Arrays(str(tmp_path / "images.npz")))
    result = train_and_evaluate(tiny_config(data=settings, test_views="flip"), tmp_path / "run")
    return tmp_path / "run", result


def test_it_repeats_training_s_figures_unless_views_are_asked_for(run, capsys):
    workdir, result = run
    evaluated = {}
    for views in (None, "centre", "flip"):
        command.main(["--workdir", str(workdir), *([f"--views={views}"] if views else [])])
        evaluated[views] = json.loads((workdir / "evaluation.json").read_text())
    assert evaluated[None]["validation"] == result["validation"] | {"views": "centre"}
    assert evaluated[None]["test"] == result["test"] | {"views": "flip"}
    assert evaluated["centre"]["validation"] == evaluated[None]["validation"]
    assert evaluated["flip"]["test"] == evaluated[None]["test"]
    for split, plain, averaged in (("test", "centre", None), ("validation", None, "flip")):
        assert evaluated[plain][split]["loss"] != evaluated[averaged][split]["loss"]
        assert evaluated[averaged][split]["views"] == "flip"
    assert "test, flip averaged" in capsys.readouterr().out


def test_views_that_would_all_be_the_same_are_refused(tiny_config):
    with pytest.raises(UserError, match="test_views = 'ten_crop' would cut the same 8×8 pixels five times"):
        command.evaluate(tiny_config(), views="ten_crop")
