"""Callbacks see every event in order, stop and interrupt a run, add figures, and are saved and restored with it."""

import json

import numpy as np
import pytest
from test_loop import assert_same, final_params
from test_resume import history

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.callbacks import loggers
from imgcls_jax.training.run import Interrupted


class Events(ic.Callback):
    """Writes down what is called, and calls `at[event, step]` with the run."""

    def __init__(self, at=None):
        self.seen, self._at = [], at or {}

    def _note(self, event, run):
        self.seen.append((event, run.step))
        if (event, run.step) in self._at:
            self._at[event, run.step](run)

    def on_start(self, run):
        self._note("start", run)

    def on_step(self, run):
        self._note("step", run)

    def on_metrics(self, run, metrics):
        assert metrics.step <= run.step
        assert np.isfinite(metrics.metrics.result()["loss"])
        self._note("metrics", run)

    def on_evaluation(self, run, record):
        self._note("evaluation", run)

    def on_epoch(self, run, record):
        assert record is run.progress.history[-1]
        self._note("epoch", run)

    def on_checkpoint(self, run):
        self._note("checkpoint", run)

    def on_rewind(self, run):
        self._note("rewind", run)

    def on_end(self, run, result):
        self.seen.append(("end", result and result["epochs"]))


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def fail(run):
    raise RuntimeError("the callback is broken")


def test_every_event_in_order(tiny_config, tiny_arrays, tmp_path):
    events = Events()
    ic.train(tiny_config(save_every_steps=3), tmp_path, arrays=tiny_arrays, callbacks=[events])
    step = [[("metrics", i), ("step", i)] for i in range(1, 9)]
    assert events.seen == [
        ("start", 0),
        *step[0], *step[1], *step[2], ("checkpoint", 3), *step[3], ("epoch", 4), ("checkpoint", 4),
        *step[4], *step[5], ("checkpoint", 6), *step[6], *step[7], ("epoch", 8), ("checkpoint", 8),
        ("end", 2),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_steps_of_a_cadence(feed, looped, tiny_config, tiny_arrays, tmp_path, monkeypatch):
    """Also where a dispatch runs many steps, as on a GPU that holds all images."""
    if looped:
        monkeypatch.setattr(meshes, "platform", lambda mesh: "gpu")

    class Third(Events):
        every_steps = 3

    events = Third()
    config = tiny_config(data=c.Data(**vars(tiny_config().data) | {"feed": feed}))
    ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[events])
    assert [step for event, step in events.seen if event == "step"] == [3, 6]


@pytest.mark.slow
@pytest.mark.parametrize("event", ["step", "metrics"])
def test_a_stop_inside_an_epoch_is_evaluated_and_final(event, tiny_config, tiny_arrays, tmp_path):
    def stop(run):
        run.stop("enough")

    events = Events({(event, 6): stop})
    result = ic.train(tiny_config(epochs=3), tmp_path, arrays=tiny_arrays, callbacks=[events])
    assert result["stopped"] == "enough"
    assert [record["step"] for record in result["history"]] == [4, 6]
    assert [record["train"]["count"] for record in result["history"]] == [64, 32]
    assert result["history"][-1]["validation"]["count"] == 21
    assert events.seen[-1] == ("end", 2)
    # Called again it is finished: nothing more is trained, and without the callback, too.
    again = ic.train(tiny_config(epochs=3), tmp_path, arrays=tiny_arrays)
    assert again == result


@pytest.mark.slow
def test_a_stop_at_the_end_of_an_epoch(tiny_config, tiny_arrays, tmp_path):
    class StopWhenGood(ic.Callback):
        def on_epoch(self, run, record):
            if record["validation"]["top1"] > 0.5:
                run.stop("good enough")

    result = ic.train(tiny_config(epochs=9), tmp_path, arrays=tiny_arrays, callbacks=[StopWhenGood()])
    assert result["stopped"] == "good enough"
    assert result["epochs"] < 9
    assert result["history"][-1]["validation"]["top1"] > 0.5
    assert all(record["validation"]["top1"] <= 0.5 for record in result["history"][:-1])


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("start", 0), ("checkpoint", 2), ("checkpoint", 4)])
def test_a_stop_whose_step_is_already_saved_takes_one_step_more(moment, tiny_config, tiny_arrays, tmp_path):
    events = Events({moment: lambda run: run.stop("enough")})
    config = tiny_config(epochs=3, save_every_steps=2)
    result = ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[events])
    assert result["history"][-1]["step"] == moment[1] + 1
    assert ic.train(config, tmp_path, arrays=tiny_arrays) == result


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=3, augment=(c.PadCrop(1), c.HorizontalFlip()))
    ic.train(config, tmp_path / "whole", arrays=tiny_arrays)
    for step in (4, 6, 9):  # at the end of an epoch and inside one
        events = Events({("step", step): lambda run: run.interrupt()})
        with pytest.raises(Interrupted):
            ic.train(config, tmp_path / "parts", arrays=tiny_arrays, callbacks=[events])
        assert events.seen[-1] == ("end", None)
        assert not (tmp_path / "parts" / "result.json").exists()
    ic.train(config, tmp_path / "parts", arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "parts"))
    assert history(tmp_path / "whole") == history(tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("start", 0), ("step", 6), ("metrics", 6), ("epoch", 8), ("checkpoint", 4)])
def test_an_exception_of_a_callback_closes_everything(moment, tiny_config, tiny_arrays, tmp_path, monkeypatch):
    closed = []
    for cls in (loggers.TensorBoard, Checkpoints):

        def close(self, cls=cls, close=cls.close):
            closed.append(cls)
            close(self)

        monkeypatch.setattr(cls, "close", close)
    broken, other = Events({moment: fail}), Events()
    config = tiny_config(logging=c.Logging(tensorboard=True))
    with pytest.raises(RuntimeError, match="the callback is broken"):
        ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[other, broken])
    assert broken.seen[-1] == other.seen[-1] == ("end", None)
    assert closed[-1] is Checkpoints
    assert moment[0] == "start" or closed[-2] is loggers.TensorBoard
    monkeypatch.undo()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() == (None if moment[0] == "start" else 4)  # the last good one
    checkpoints.close()
    result = ic.train(config, tmp_path, arrays=tiny_arrays)
    assert result["epochs"] == 2


@pytest.mark.slow
def test_an_exception_in_on_end_hides_no_other_on_end(tiny_config, tiny_arrays, tmp_path):
    class Broken(ic.Callback):
        def on_end(self, run, result):
            fail(run)

    first, last = Events(), Events()
    with pytest.raises(RuntimeError, match="the callback is broken"):
        ic.train(tiny_config(), tmp_path, arrays=tiny_arrays, callbacks=[first, Broken(), last])
    assert first.seen[-1] == last.seen[-1] == ("end", 2)


class Mean(ic.Callback):
    """Logs the mean loss of all steps so far, and lowers the learning rate with the number of epochs that it saw."""

    def __init__(self):
        self.total, self.steps, self.epochs, self.list = 0.0, 0, 0, []

    def on_metrics(self, run, metrics):
        self.total += metrics.metrics.result()["loss"]
        self.steps += 1
        self.list.append(metrics.step)
        run.log(mean_loss=self.total / self.steps)

    def on_epoch(self, run, record):
        self.epochs += 1
        run.log(steps_seen=self.steps)

    def learning_rate_factor(self, run):
        return 0.5**self.epochs

    def state_dict(self):
        return {"total": self.total, "steps": self.steps, "epochs": self.epochs, "list": self.list}

    def load_state_dict(self, state):
        self.total, self.steps, self.epochs, self.list = state.values()


@pytest.mark.slow
def test_a_stateful_callback_is_resumed_bit_for_bit(tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(epochs=3, augment=(c.PadCrop(1), c.HorizontalFlip()))
    whole = Mean()
    ic.train(config, tmp_path / "whole", arrays=tiny_arrays, callbacks=[whole])
    for step in (2, 4, 7):
        events = Events({("step", step): lambda run: run.interrupt()})
        with pytest.raises(Interrupted):
            ic.train(config, tmp_path / "parts", arrays=tiny_arrays, callbacks=[Mean(), events])
    last = Mean()
    ic.train(config, tmp_path / "parts", arrays=tiny_arrays, callbacks=[last])
    assert last.state_dict() == whole.state_dict()
    assert whole.list == list(range(1, 13))
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "parts"))
    assert history(tmp_path / "whole") == history(tmp_path / "parts")
    records = lines(tmp_path / "whole")
    assert [record["learning_rate"] for record in records] == pytest.approx([0.05, 0.025, 0.0125])
    assert [record["figures"]["steps_seen"] for record in records] == [4, 8, 12]
    assert records[-1]["figures"]["mean_loss"] == pytest.approx(whole.total / 12)


@pytest.mark.slow
def test_a_run_is_not_resumed_without_its_stateful_callback(tiny_config, tiny_arrays, tmp_path):
    events = Events({("step", 6): lambda run: run.interrupt()})
    with pytest.raises(Interrupted):
        ic.train(tiny_config(), tmp_path, arrays=tiny_arrays, callbacks=[Mean(), events])
    with pytest.raises(UserError, match="was trained with the callback Mean, whose state is part of the run"):
        ic.train(tiny_config(), tmp_path, arrays=tiny_arrays)


def test_a_state_that_is_not_json_is_named(tiny_config, tiny_arrays, tmp_path):
    class Wrong(ic.Callback):
        def state_dict(self):
            return {"array": np.zeros(3)}

    with pytest.raises(UserError, match="the state_dict of the callback .*Wrong is not JSON"):
        ic.train(tiny_config(), tmp_path, arrays=tiny_arrays, callbacks=[Wrong()])


@pytest.mark.slow
def test_a_rewind_takes_the_state_of_the_checkpoint_back(tiny_config, tiny_arrays, tmp_path):
    """The loss overflows in the second epoch, so that its first try is forgotten; see test_loop for the rates."""
    schedule = c.Schedule(peak=0.01, per="epoch", shape=c.MultiStep(at=(1,), factor=1e30))
    config = tiny_config(
        epochs=3,
        optim=c.Optim(optimizer=c.SGD(), schedule=schedule),
        recover=c.Recover(factor=1e-31, times=1),
        log_every_steps=1,
    )
    events, mean = Events(), Mean()
    mean.learning_rate_factor = lambda run: 1.0
    ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[events, mean])
    assert ("rewind", 4) in events.seen
    assert mean.list == list(range(1, 13))
    assert [r["step"] for r in lines(tmp_path) if r["kind"] == "step"] == list(range(1, 13))


@pytest.mark.slow
def test_figures_go_to_tensorboard(tiny_config, tiny_arrays, tmp_path):
    from test_loggers import events

    config = tiny_config(logging=c.Logging(tensorboard=True))
    ic.train(config, tmp_path, arrays=tiny_arrays, callbacks=[Mean()])
    written = {(tag, step): value for tag, step, value in events(tmp_path / "tensorboard")}
    assert written["figures/steps_seen", 0] == 4
    assert written["figures/steps_seen", 1] == 8


class StopAfter(c.Callback):
    """A callback of a config."""

    steps: int
    """Steps after which training ends."""

    def build(self):
        return Events({("step", self.steps): lambda run: run.stop("as the config says")})


@pytest.mark.slow
def test_a_callback_of_the_config(tiny_config, tiny_arrays, tmp_path):
    result = ic.train(tiny_config(callbacks=(StopAfter(3),)), tmp_path, arrays=tiny_arrays)
    assert result["stopped"] == "as the config says"
    assert result["history"][-1]["step"] == 3
