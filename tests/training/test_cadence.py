"""Evaluations, checkpoints, step records and the end of a run every so many steps; none of them changes a parameter."""

import json
import time

import jax
import numpy as np
import pytest
from test_loop import assert_same, final_params
from test_resume import history

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import feed
from imgcls_jax.training.callbacks import checkpoints as saving
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.callbacks.profile import Profile
from imgcls_jax.training.experiment import Experiment


def records(workdir, kind):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [record for record in lines if record["kind"] == kind]


def with_feed(config, kind):
    return c.Data(**vars(config.data) | {"feed": kind})


@pytest.fixture
def looped(request, monkeypatch):
    """As on a GPU: a dispatch runs many steps, and the host stays behind the device."""
    if request.param:
        monkeypatch.setattr(meshes, "platform", lambda mesh: "gpu")


AVERAGES = {"none": {}, "ema": {"ema": c.EMA(0.9)}, "swa": {"swa": c.SWA(from_epoch=1)}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("average", "feed", "looped"),
    [
        pytest.param("none", "resident", False, marks=pytest.mark.deep),
        pytest.param("ema", "streamed", False, marks=pytest.mark.deep),
        pytest.param("swa", "resident", False, marks=pytest.mark.deep),
        ("ema", "streamed", True),
        pytest.param("swa", "resident", True, marks=pytest.mark.deep),
    ],
    indirect=["looped"],
)
def test_watching_changes_no_bit(average, feed, looped, tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(
        epochs=3,
        augment=(c.PadCrop(1), c.HorizontalFlip(), c.Mixup(0.5, from_epoch=1)),
        optim=c.Optim(c.AdamW(), c.Schedule(peak=0.01, shape=c.Cosine()), **AVERAGES[average]),
    )
    config = tiny_config(**vars(config) | {"data": with_feed(config, feed)})
    plain = ic.train(config, tmp_path / "plain", arrays=tiny_arrays)
    watched = tiny_config(
        **vars(config) | {"evaluate_every_steps": 2, "log_every_steps": 1, "save_every_steps": 3},
    )
    result = ic.train(watched, tmp_path / "watched", arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "plain"), final_params(tmp_path / "watched"))
    for name in ("validation", "test"):
        assert result[name] == plain[name]
    # An epoch's end is evaluated anyway.
    assert [r["step"] for r in records(tmp_path / "watched", "evaluation")] == [2, 6, 10]
    assert all(r["validation"]["count"] == 21 for r in records(tmp_path / "watched", "evaluation"))
    assert [r["step"] for r in records(tmp_path / "watched", "step")] == list(range(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "extra"),
    [
        pytest.param("fp32", {"sam_radius": 0.05}, marks=pytest.mark.deep),
        pytest.param("bf16", {"clip": c.Clip("global_norm", 0.1)}, marks=pytest.mark.deep),
        ("fp16", {"accumulate": 2, "clip": c.Clip("global_norm", 0.1)}),
    ],
)
def test_diagnostics_change_no_bit(precision, extra, tiny_config, tiny_arrays, tmp_path):
    optim = c.Optim(c.SGD(momentum=0.9, nesterov=True, weight_decay=5e-4), tiny_config().optim.schedule, **extra)
    for name, every in (("off", None), ("on", 2)):
        config = tiny_config(optim=optim, precision=precision, log_every_steps=every)
        ic.train(config, tmp_path / name, arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "off"), final_params(tmp_path / "on"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("feed", "looped"),
    [
        ("resident", False),
        pytest.param("resident", True, marks=pytest.mark.deep),
        pytest.param("streamed", True, marks=pytest.mark.deep),
    ],
    indirect=["looped"],
)
def test_norms_of_a_step_by_hand(feed, looped, tiny_config, tiny_arrays, tmp_path):
    """With plain gradient descent, the update is the learning rate times the gradient."""
    schedule = c.Schedule(peak=0.05, shape=c.Cosine())
    config = tiny_config(optim=c.Optim(c.SGD(), schedule), log_every_steps=2, epochs=3)
    config = tiny_config(**vars(config) | {"data": with_feed(config, feed)})
    ic.train(config, tmp_path, arrays=tiny_arrays)

    experiment = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    state, _ = experiment.enter_phase(experiment.initial_state(), 0, previous=0)
    expected, before = [], jax.device_get(state.params)
    for epoch in range(3):
        for state, _, done in experiment.training.epoch(state, epoch, 0, every=[1]):
            after = jax.device_get(state.params)
            update = jax.tree.map(lambda new, old: np.float64(new) - old, after, before)
            norms = [np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree))) for tree in (update, before)]
            rate = experiment.schedule.at(4 * epoch + done - 1)
            expected.append((rate, norms[0] / rate, norms[1], norms[0] / norms[1]))
            before = after
    written = records(tmp_path, "step")
    assert [r["step"] for r in written] == [2, 4, 6, 8, 10, 12]
    for record in written:
        rate, gradient, parameters, ratio = expected[record["step"] - 1]
        assert record["learning_rate"] == pytest.approx(rate)
        assert record["gradient_norm"] == pytest.approx(gradient, rel=1e-4)
        assert record["parameter_norm"] == pytest.approx(parameters, rel=1e-5)
        assert record["update_ratio"] == pytest.approx(ratio, rel=1e-4)


@pytest.mark.slow
def test_step_records_go_to_tensorboard(tiny_config, tiny_arrays, tmp_path):
    from test_loggers import events

    config = tiny_config(log_every_steps=2, evaluate_every_steps=3, logging=c.Logging(tensorboard=True))
    ic.train(config, tmp_path, arrays=tiny_arrays)
    written = {(tag, step): value for tag, step, value in events(tmp_path / "tensorboard" / "steps")}
    for record in records(tmp_path, "step"):
        assert written["steps/gradient_norm", record["step"]] == pytest.approx(record["gradient_norm"])
    (first, second) = records(tmp_path, "evaluation")
    assert written["steps/validation/top1", 3] == pytest.approx(first["validation"]["top1"])
    assert second["step"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "steps", "feed", "looped"),
    [
        (2, [2], "resident", True),
        (4, [4], "resident", True),
        (6, [4, 6], "resident", True),
        (6, [4, 6], "streamed", False),
        (8, [4, 8], "streamed", False),
        (99, [4, 8, 12], "streamed", False),
    ],
    indirect=["looped"],
)
def test_max_steps(limit, steps, feed, looped, tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=3, max_steps=limit, save_every_steps=2, evaluate_every_steps=2)
    config = tiny_config(**vars(config) | {"data": with_feed(config, feed)})
    result = ic.train(config, tmp_path, arrays=tiny_arrays)
    assert [record["step"] for record in result["history"]] == steps
    assert result["history"][-1]["train"]["count"] == 16 * ((steps[-1] - 1) % 4 + 1)
    assert result["test"]["count"] == 27
    assert ic.train(config, tmp_path, arrays=tiny_arrays) == result


def test_checkpoints_by_the_clock(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    now, saved = [0.0], []

    class Clock(ic.Callback):
        def on_step(self, run):
            now[0] += 40.0  # seconds per step

        def on_checkpoint(self, run):
            saved.append(run.step)

    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    config = tiny_config(epochs=2, save_every_minutes=1.0)
    ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[Clock()], console=Console(silent=True))
    # After 80 s; the end of the epoch; 80 s after that.
    assert saved == [2, 4, 6, 8]
    assert time.monotonic() == now[0]


@pytest.mark.slow
@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.deep), 5])
def test_records_inside_an_epoch_are_written_once_by_a_resumed_run(step, tiny_config, tiny_arrays, tmp_path):
    """It is interrupted after its checkpoint of step 3, or after two more steps that no checkpoint knows."""
    config = tiny_config(epochs=2, evaluate_every_steps=3, log_every_steps=1, save_every_steps=3)

    class Killed(ic.Callback):
        def on_step(self, run):
            if run.step == step + 1:
                raise RuntimeError("killed")

    ic.train(config, tmp_path / "whole", arrays=tiny_arrays)
    with pytest.raises(RuntimeError, match="killed"):
        ic.train(config, tmp_path / "parts", arrays=tiny_arrays, callbacks=[Killed()])
    ic.train(config, tmp_path / "parts", arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "parts"))
    assert history(tmp_path / "whole") == history(tmp_path / "parts")
    assert [r["step"] for r in records(tmp_path / "parts", "step")] == list(range(1, 9))


def test_dispatches_end_at_multiples_of_the_cadences():
    cut = list(feed.dispatches(0, 50, stride=32, before=100, every=[30, 64]))
    assert cut == [(0, 20), (20, 28), (28, 50)]  # steps 120 and 128 of the run
    assert list(feed.dispatches(5, 50, stride=32, before=0, every=[])) == [(5, 37), (37, 50)]
    assert list(feed.dispatches(3, 3, stride=32, before=0, every=[2])) == []
    assert list(feed.dispatches(0, 3, stride=1, before=7, every=[2])) == [(0, 1), (1, 2), (2, 3)]
    cut = list(feed.dispatches(0, 50, stride=32, before=100, every=[], alone=25))  # steps 125 and 150
    assert cut == [(0, 24), (24, 25), (25, 49), (49, 50)]
    assert list(feed.dispatches(2, 5, stride=32, before=4, every=[], alone=1)) == [(2, 3), (3, 4), (4, 5)]


@pytest.mark.slow
def test_profile_writes_a_trace(tiny_config, tiny_arrays, tmp_path, capsys):
    ic.train(tiny_config(epochs=2), tmp_path, arrays=tiny_arrays, callbacks=[Profile(2, skip=4)])
    assert list((tmp_path / "profile").glob("plugins/profile/*/*.xplane.pb")), "for TensorBoard"
    (trace,) = (tmp_path / "profile").glob("plugins/profile/*/perfetto_trace.json.gz")
    assert trace.stat().st_size > 1000
    assert "profile written to" in capsys.readouterr().out
