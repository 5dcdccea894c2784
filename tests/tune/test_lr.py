"""The learning-rate range test: training's own steps, on a copy."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.cli import tune
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.loop import train
from imgcls_jax.tune import lr


def make_run(config, arrays, schedule=None):
    streamed = dataclasses.replace(config, data=dataclasses.replace(config.data, feed="streamed"))
    return Experiment(streamed, data.load(streamed.data, arrays=arrays), meshes.make(config.mesh), schedule=schedule)


def with_source(config, path, arrays):
    """The config with its images in a file, so that a command can read them."""
    np.savez(path, **arrays)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=c.Arrays(str(path))))


def fingerprints(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_steps_are_trainings_own(tiny_config, tiny_arrays):
    """At a constant rate the losses are those of a training, past an epoch's end too; the start stays as it was."""
    config = tiny_config()
    run = make_run(config, tiny_arrays, lr.rising(0.05, 0.05, 6))
    start = run.initial_state()
    before = jax.tree.map(np.array, start)
    trace = lr.range_test(run, start)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, start))

    training = make_run(config, tiny_arrays)
    state, _ = training.enter_phase(training.initial_state(), 0, previous=0)
    totals = [0.0]
    for epoch in (0, 1):
        for state, metrics, _ in training.training.epoch(state, epoch, 0):
            totals.append(float(metrics.loss.total))
    np.testing.assert_allclose(trace.loss, np.diff(totals)[:6] / 16, rtol=1e-5)
    assert len(trace.loss) == 6
    assert not trace.diverged


@pytest.mark.slow
def test_rates_smoothing_and_divergence(tiny_config, tiny_arrays):
    trace = lr.find(tiny_config(), arrays=tiny_arrays, lowest=1e-4, highest=1e6, steps=60)
    assert trace.diverged
    assert 10 < len(trace.rate) < 60
    np.testing.assert_allclose(trace.rate, (1e-4 * 10 ** (10 * np.arange(60) / 59))[: len(trace.rate)], rtol=1e-5)
    assert np.isfinite(trace.loss).all()
    for i, smoothed in enumerate(trace.smoothed):  # the mean of all losses so far, weighted by 0.9 to their age
        weights = 0.9 ** np.arange(i, -1, -1)
        assert smoothed == pytest.approx(np.average(trace.loss[: i + 1], weights=weights), rel=1e-6)
    earlier = trace.smoothed[:-1]
    assert max(earlier[10:]) <= 4 * min(earlier[10:])


def trace_of(loss, rate):
    return lr.Trace(rate.tolist(), loss.tolist(), loss.tolist(), diverged=True)


def test_suggestions_of_a_known_curve():
    """A logistic fall around 1e-3, and a rise ∝ rate² that makes the sum's minimum known by its derivative."""
    rate = np.geomspace(1e-6, 10, 400)
    loss = 2 - 1 / (1 + (1e-3 / rate) ** 2) + 1e-2 * rate**2
    suggestion = lr.suggest(trace_of(loss, rate))
    grid = np.geomspace(1e-6, 10, 1_000_001)
    minimum = grid[np.argmin(2 - 1 / (1 + (1e-3 / grid) ** 2) + 1e-2 * grid**2)]
    assert suggestion.minimum == pytest.approx(minimum, rel=0.05)
    assert suggestion.steepest == pytest.approx(1e-3, rel=0.05)
    assert suggestion.recommended == suggestion.tenth_of_minimum == suggestion.minimum / 10


def test_a_loss_that_still_falls_has_no_minimum_yet():
    rate = np.geomspace(1e-6, 1e-2, 100)
    suggestion = lr.suggest(trace_of(2 - 1 / (1 + (1e-3 / rate) ** 2), rate))
    assert suggestion.recommended == suggestion.steepest == pytest.approx(1e-3, rel=0.1)
    assert "raise --highest" in suggestion.reason


@pytest.mark.parametrize("steps", [5, 100])
def test_a_loss_that_never_fell_gives_no_suggestion(steps):
    rate = np.geomspace(1e-6, 10, steps)
    assert lr.suggest(trace_of(1 + rate, rate)) is None


@pytest.mark.slow
def test_a_run_is_read_and_not_touched(tiny_config, tiny_arrays, tmp_path, capsys):
    config = with_source(tiny_config(epochs=1), tmp_path / "images.npz", tiny_arrays)
    train(config, tmp_path / "run")
    before = fingerprints(tmp_path / "run")
    arguments = ["--workdir", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--steps", "30"]
    tune.main(["lr", *arguments, "--lowest=1e-5", "--highest=1"])
    assert fingerprints(tmp_path / "run") == before
    assert "is finished: the rate is one to train on from its last state with" in " ".join(
        capsys.readouterr().out.split()
    )

    document = json.loads((tmp_path / "out" / "lr.json").read_text())
    assert len(document["rate"]) == len(document["loss"]) == len(document["smoothed"]) > 10
    fresh = lr.find(config, lowest=1e-5, highest=1.0, steps=30)
    assert document["loss"][0] < fresh.loss[0], "it starts where the run is, not at its beginning"
    assert document["peak"] == 0.05
    assert Image.open(tmp_path / "out" / "lr.png").size[0] > 500


def test_a_mistake_is_told(tiny_config, tiny_arrays, tmp_path):
    with pytest.raises(UserError, match=r"needs 0 < --lowest < --highest, not 1 and 0\.1"):
        lr.find(tiny_config(), lowest=1, highest=0.1)
    with pytest.raises(UserError, match=r"--steps 5 are too few .* at least 30"):
        lr.find(tiny_config(), steps=5)
    with pytest.raises(UserError, match=r"give --workdir RUN, the folder of a run, or --config FILE.py"):
        tune.main(["lr"])
    with pytest.raises(UserError, match="is not the folder of a run"):
        tune.main(["lr", "--workdir", str(tmp_path)])

    config = tiny_config()
    (tmp_path / "config.json").write_text(json.dumps(files.document(config)))
    with pytest.raises(UserError, match="has no checkpoint yet: train it first"):
        lr.find(config, workdir=tmp_path, arrays=tiny_arrays)
    with pytest.raises(UserError, match=r"--config.seed=1 cannot change what the checkpoint in .* was made with"):
        tune.main(["lr", "--workdir", str(tmp_path), "--config.seed=1"])
    with pytest.raises(UserError, match=r"is a run of another config than .*digits_cnn.py \(.*\): leave --config out"):
        tune.main(["lr", "--workdir", str(tmp_path), "--config", "configs/digits_cnn.py"])
