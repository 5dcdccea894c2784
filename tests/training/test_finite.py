"""Nothing that is not finite is saved, called the best, or written to a file; recovery finds the last good state."""

import json
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import assert_same, final_params

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.evaluation import evaluate
from imgcls_jax.record import history, strict
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.report import record as report
from imgcls_jax.training import sound
from imgcls_jax.training.best import better
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.finite import NotFinite, is_finite
from imgcls_jax.training.progress import Progress
from imgcls_jax.training.state import TrainState


class Jump(c.Shape):
    """The peak rate, times a factor at one step and after it."""

    step: int
    factor: float
    steps: int = 1
    """How many steps it lasts."""

    def rates(self, peak, *, entries, unit):
        steps = np.arange(entries)
        return peak * np.where((steps >= self.step) & (steps < self.step + self.steps), self.factor, 1.0)


def explosive(tiny_config, step, factor=1e30, **changes):
    optim = c.Optim(c.SGD(), c.Schedule(0.01, Jump(step, factor)))
    return tiny_config(optim=optim, **changes)


def run(config, workdir, arrays, **kwargs):
    return ic.train(config, workdir, arrays=arrays, console=Console(silent=True), **kwargs)


def strictly(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def saved(workdir):
    """{step: whether all its arrays are finite} of the checkpoints in a work directory."""
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    return {step: all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(checkpoints.arrays(step))) for step in steps}


# Four steps an epoch: the update of step 3 is an epoch's last one, and its loss is that of the parameters before it.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # 1e60 is infinite as a float32, on purpose
@pytest.mark.parametrize(
    ("step", "factor", "changes", "kept"),
    [
        (3, 1e60, {}, []),
        (7, 1e60, {"save_every_steps": 1}, [4, 6, 7]),
        (5, 1e60, {"save_every_steps": 1, "data": "streamed"}, [4, 5]),
        (7, 1e7, {"precision": "fp16"}, [4]),  # finite as float32, infinite in the arithmetic of the model
    ],
)
def test_ruined_parameters_are_not_saved(step, factor, changes, kept, tiny_config, tiny_arrays, tmp_path):
    if "data" in changes:
        changes = changes | {"data": c.Data(**vars(tiny_config().data) | {"feed": changes["data"]})}
    config = explosive(tiny_config, step, factor, epochs=3, **changes)
    with pytest.raises(NotFinite) as error:
        run(config, tmp_path, tiny_arrays)
    said = "no checkpoint was made yet" if not kept else f"the checkpoint of step {kept[-1]}, a finite one, is kept"
    assert said in str(error.value)
    checkpoints = saved(tmp_path)
    assert all(checkpoints.values())
    assert max(checkpoints, default=0) == max(kept, default=0)
    assert not (tmp_path / "result.json").exists()
    assert all(
        strictly(line)["epoch"] < 1 + (step > 3) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "factor", "changes"),
    [
        (7, 1e40, {"save_every_steps": 1}),
        (5, 1e25, {"save_every_steps": 1}),  # finite for a step, and saved: the checkpoint before it is the good one
        (5, 1e25, {"save_every_steps": 1, "validation": False}),
        (7, 1e7, {"precision": "fp16", "save_every_steps": 1}),
    ],
)
def test_recovery_goes_back_to_what_is_good(step, factor, changes, tiny_config, tiny_arrays, tmp_path):
    arrays = dict(tiny_arrays)
    if changes.get("validation") is False:
        arrays = {name: values for name, values in arrays.items() if "validation" not in name}
    changes = {name: value for name, value in changes.items() if name != "validation"}
    recover = c.Recover(factor=1 / factor, times=3)
    config = explosive(tiny_config, step, factor, epochs=3, recover=recover, **changes)
    result = run(config, tmp_path, arrays)
    assert [record["step"] for record in result["history"]] == [4, 8, 12]
    assert all(saved(tmp_path).values())
    assert strictly((tmp_path / "result.json").read_text())["test"]["loss"] < 10


@pytest.mark.slow
def test_an_evaluation_that_is_not_finite_sends_the_run_back(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    """First to the newest checkpoint; the next time in the same epoch to an epoch's end."""
    calls, back, ruined, original = [], [], {2, 3}, evaluate.Evaluation.__call__

    def call(self, variables):
        calls.append(None)
        return original(self, variables) | ({"loss": math.nan, "top1": 1.0} if len(calls) in ruined else {})

    class Watch(ic.Callback):
        def on_rewind(self, run):
            back.append(run.step)

    monkeypatch.setattr(evaluate.Evaluation, "__call__", call)
    config = tiny_config(epochs=3, recover=c.Recover(), save_every_steps=1)
    result = run(config, tmp_path / "run", tiny_arrays, callbacks=[Watch()])
    assert back == [7, 4]
    rates = [record["learning_rate"] for record in result["history"]]
    assert rates == pytest.approx([0.05, 0.0125, 0.0125])
    assert len(calls) == 6

    calls.clear()
    with pytest.raises(NotFinite, match="the validation loss is NaN or infinite in epoch 2 after step 4"):
        run(tiny_config(epochs=3), tmp_path / "stopped", tiny_arrays)
    assert list(saved(tmp_path / "stopped")) == [4]


@pytest.mark.slow
def test_a_recovered_run_ends_alike_wherever_it_was_interrupted(tiny_config, tiny_arrays, tmp_path):
    config = explosive(tiny_config, 6, 1e40, epochs=3, recover=c.Recover(factor=1e-40), save_every_steps=3)

    class Stop(ic.Callback):
        def __init__(self, step):
            self.step = step

        def on_step(self, run):
            if run.step == self.step and not run.progress.recoveries:
                run.interrupt()

    run(config, tmp_path / "whole", tiny_arrays)
    for step in (4, 5):  # 5 is saved by the interruption alone
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "parts", tiny_arrays, callbacks=[Stop(step)])
    run(config, tmp_path / "parts", tiny_arrays)
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "parts"))


def test_anchors():
    assert sound.anchors([], 4, 4) == [4]
    assert sound.anchors([4], 5, 4) == [5, 4]
    assert sound.anchors([6, 4], 8, 4) == [8, 4]
    assert sound.anchors([9, 8, 4], 12, 4) == [12, 8]
    assert sound.anchors([12, 8], 13, 4) == [13, 12, 8]


class Undefined(c.Metric):
    """NaN, as the precision of a class that is never predicted is."""

    name: ClassVar[str] = "undefined"

    def sums(self, logits, labels, mask):
        return jnp.zeros(())

    def result(self, sums):
        return math.nan


@pytest.mark.slow
def test_json_is_strict(tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(metrics=(Undefined(),), best=c.Best("undefined"))
    result = run(config, tmp_path, tiny_arrays)
    losses = [record["validation"]["loss"] for record in result["history"]]
    assert result["best_epoch"] == losses.index(min(losses)), "equally undefined: the loss decides"
    written = strictly((tmp_path / "result.json").read_text())
    assert written["validation"]["undefined"] is None
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert strictly(line)["validation"]["undefined"] is None
    for document in (tmp_path / "checkpoints").glob("*/run/metadata"):
        strictly(document.read_text())
    assert math.isnan(history.epochs(tmp_path)[0]["validation"]["undefined"])
    assert math.isnan(report.result(tmp_path)["history"][0]["validation"]["undefined"])
    assert run(config, tmp_path, tiny_arrays)["best_epoch"] == result["best_epoch"]


def test_strict_and_back():
    record = {
        "train": {"loss": math.inf, "n": 3},
        "validation": None,
        "evaluators": {"a": {"x": math.nan}},
        "loss": 1.0,
    }
    encoded = strict.encode(record)
    assert encoded == {
        "train": {"loss": None, "n": 3},
        "validation": None,
        "evaluators": {"a": {"x": None}},
        "loss": 1.0,
    }
    decoded = strict.decode(encoded)
    assert math.isnan(decoded["train"]["loss"]) and math.isnan(decoded["evaluators"]["a"]["x"])
    assert decoded["validation"] is None


@pytest.mark.parametrize("part", ["params", "stats", "opt_state"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_number_is_found(part, bad):
    good = {"w": jnp.ones((3, 2)), "count": jnp.int32(7)}
    state = TrainState(
        step=jnp.int32(0), params=good, frozen={}, stats=good, opt_state=good, loss_scale=None, average=None,
        lr_factor=jnp.float32(1), metrics=None,
    )  # fmt: skip
    assert jax.jit(is_finite)(state)
    spoiled = good | {"w": good["w"].at[2, 1].set(bad)}
    assert not jax.jit(is_finite)(state.replace(**{part: spoiled}))


def test_the_best_epoch_of_a_checkpoint_stays_until_a_better_one(tiny_config):
    """Its checkpoint is the one that was kept, also by a version that broke ties in another way."""
    records = [{"epoch": i, "step": 4 * i + 4, "validation": {"top1": 0.5, "loss": 2.0 - i}} for i in range(2)]
    document = Progress(epoch=2, history=records, best=0).document()
    progress = Progress.of(document, steps_per_epoch=4)
    assert progress.best == 0
    assert better([*records, {"epoch": 2, "validation": {"top1": 0.5, "loss": 3.0}}], progress.best, tiny_config()) == 0
    assert better([*records, {"epoch": 2, "validation": {"top1": 0.5, "loss": 1.5}}], progress.best, tiny_config()) == 2
