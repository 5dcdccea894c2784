"""Optimizers, schedule shapes, losses and metrics of a user's own: as strict, saved, resumed and scaled as the built-in
ones."""

import json
import time
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_loop import assert_same, final_params
from test_optimizers import nested, run, settings

from imgcls_jax import config as c
from imgcls_jax.config import io
from imgcls_jax.config.describe import describe
from imgcls_jax.config.overrides import override
from imgcls_jax.errors import UserError
from imgcls_jax.optim import checks, losses, optimizers, schedules
from imgcls_jax.training.loop import train


class OwnSGD(c.Optimizer):
    """optax's SGD; it knows nothing of groups, masks and decay."""

    momentum: float = 0.9
    """Decay of the velocity."""

    def build(self, learning_rate):
        return optax.sgd(learning_rate, self.momentum)


class OwnAdam(c.Optimizer):
    weight_decay: float = 0.0

    def build(self, learning_rate):
        return optax.adam(learning_rate)


class Slow(c.Shape):
    """Falls by a share each epoch, and by half after each epoch with a metric above 2."""

    share: float = 0.1

    def rates(self, peak, *, entries, unit):
        return peak * (1 - self.share) ** (np.arange(entries) // unit)

    def adapt(self, history, *, schedule, higher_is_better):
        assert higher_is_better["top1"]
        return 0.5 ** sum((record["validation"] or {}).get("scripted", 0) > 2 for record in history)


class Squared(c.Loss):
    """Brier's score."""

    factor: float = 1.0

    def build(self, *, num_classes, class_counts=None):
        assert len(class_counts) == num_classes
        return lambda logits, labels: self.factor * jnp.sum((jax.nn.softmax(logits) - labels) ** 2, axis=-1)


class Scripted(c.Metric):
    """Gives what the test wrote down, one value per evaluation."""

    name: ClassVar[str] = "scripted"
    higher_is_better: ClassVar[bool] = False
    VALUES: ClassVar[list] = []

    def sums(self, logits, labels, mask):
        return mask.sum()

    def result(self, sums):
        assert sums in (21, 27)
        value = self.VALUES.pop(0)
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def own_config(tiny_config):
    def make(epochs=3, optimizer=None, **changes):
        optim = c.Optim(optimizer or OwnSGD(), c.Schedule(0.05, Slow(), warmup_epochs=1))
        return tiny_config(**(dict(optim=optim, loss=Squared(), metrics=(Scripted(),), epochs=epochs) | changes))

    return make


# ---- settings -------------------------------------------------------------------------------------------------------


def test_strict_listed_saved_and_restored(own_config, tmp_path):
    config = own_config()
    text = describe(config)
    assert "optim.optimizer.momentum = 0.9   (float)\n    Decay of the velocity." in text
    assert "optim.schedule.shape.share = 0.1   (float)" in text
    assert "loss.factor = 1.0   (float)" in text
    (tmp_path / "config.json").write_text(json.dumps(io.document(config)))
    assert io.restore(tmp_path / "config.json") == config
    assert override(config, ["optim.optimizer.momentum=0.5"]).optim.optimizer == OwnSGD(0.5)
    assert override(config, ["loss=CrossEntropy"]).loss == c.CrossEntropy()
    for wrong, message in (
        ("optim.optimizer.momentun=1", r"did you mean \"momentum\"\?"),
        ("optim.schedule.shape.share=fast", "must be a number, not 'fast'"),
        ("loss.factor=[1]", r"must be a number, not \[1\]"),
    ):
        with pytest.raises(UserError, match=message):
            override(config, [wrong])
    assert "OwnSGD: optax's SGD; it knows" in describe(override(config, ["optim.optimizer=SGD"]), "optim.optimizer")


# ---- optimizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [{}, {"clip": c.Clip("global_norm", 1.0), "lookahead": c.Lookahead(4, 0.3)}])
@pytest.mark.parametrize(("own", "built_in"), [
    (OwnSGD(0.8), c.SGD(0.8)),
    (OwnAdam(weight_decay=0.1), c.AdamW(weight_decay=0.1)),
])  # fmt: skip
def test_groups_layer_decay_and_weight_decay_act_as_on_a_built_in_one(own, built_in, others, reference):
    ones = jax.tree.map(lambda _: 1.0, nested(reference["parameters"]()))
    scales = {"lr_scale": ones | {"conv": {"kernel": 0.3}}}
    if hasattr(own, "weight_decay"):
        scales["wd_scale"] = ones | {"conv": {"kernel": 3.0}, "out": {"bias": 5.0, "kernel": 0.0}}
    ours = run(settings(own, **others), reference, **scales)
    theirs = run(settings(built_in, **others), reference, **scales)
    plain = run(settings(built_in, **others), reference)
    for path in theirs:
        np.testing.assert_allclose(ours[path], theirs[path], atol=2e-6, err_msg=path)
    assert np.abs(theirs["conv.kernel"] - plain["conv.kernel"]).max() > 0.005
    decayed = optimizers.build(settings(own), nested(reference["parameters"]())).decayed
    assert [path for path, decays in decayed.items() if decays] == (
        ["conv.kernel", "out.kernel"] if hasattr(own, "weight_decay") else []
    )


def test_may_take_the_rest_beside_muon(reference):
    ours = run(settings(c.Muon(rest=OwnAdam(weight_decay=0.1))), reference)
    theirs = run(settings(c.Muon(rest=c.AdamW(weight_decay=0.1))), reference)
    for path in theirs:
        np.testing.assert_allclose(ours[path], theirs[path], atol=2e-6, err_msg=path)


def test_may_share_the_parameters_itself_and_evaluate_others(reference):
    class Kernels(c.Optimizer):
        def split(self, params):
            names = jax.tree.map(lambda p: "main" if p.ndim > 1 else "rest", params)
            return {"main": c.Part(self), "rest": c.Part(c.SGD(), 0.5)}, names

        def build(self, learning_rate):
            return optax.sgd(learning_rate)

        def evaluation_params(self, state, params):
            return jax.tree.map(lambda p: p + 1, params)

    ours = run(settings(Kernels()), reference)
    plain = run(settings(c.SGD()), reference)
    half = run(settings(c.SGD()), dict(reference) | {"RATES": [rate / 2 for rate in reference["RATES"]]})
    for path in plain:
        expected = (plain if path.endswith("kernel") else half)[path] + 1
        np.testing.assert_allclose(ours[path], expected, atol=2e-6, err_msg=path)
    with pytest.raises(UserError, match="Kernels averages the parameters itself: set optim.lookahead to None"):
        checks.check(settings(Kernels(), lookahead=c.Lookahead()), 3)
    with pytest.raises(UserError, match=r"optim.optimizer.rest cannot be Kernels"):
        checks.check(settings(c.Muon(rest=Kernels())), 3)
    scale = jax.tree.map(lambda _: 0.5, nested(reference["parameters"]()))
    with pytest.raises(UserError, match=r"keeps averages of the parameters, .* define Kernels.chain in place of build"):
        run(settings(Kernels()), reference, lr_scale=scale)


class Injecting(c.Optimizer):
    def build(self, learning_rate):
        return optax.inject_hyperparams(optax.sgd)(learning_rate)


class Searching(c.Optimizer):
    def build(self, learning_rate):
        return optax.lbfgs(learning_rate)


class Wrong(c.Optimizer):
    def build(self, learning_rate):
        return learning_rate


class Failing(c.Optimizer):
    def build(self, learning_rate):
        return optax.sgd(learning_rate, momentun=0.9)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Injecting(), "Injecting.build uses optax.inject_hyperparams, which would keep the first learning rate"),
        (Searching(), r"the optimizer of Searching fails in build\(…\).update: TypeError: .*value"),
        (Wrong(), "Wrong.build must return an optax.GradientTransformation, not float"),
        (Failing(), "the optimizer of Failing fails in build: TypeError: .*momentun"),
    ],
)
def test_what_cannot_work_is_one_sentence(optimizer, message, reference):
    with pytest.raises(UserError, match=message) as error:
        run(settings(optimizer), reference, steps=1)
    assert "\n" not in str(error.value)


def test_a_scale_on_a_weight_decay_that_is_not_there_is_refused(reference):
    scale = jax.tree.map(lambda _: 0.5, nested(reference["parameters"]()))
    with pytest.raises(UserError, match="OwnSGD has no setting weight_decay: remove the scale"):
        run(settings(OwnSGD()), reference, wd_scale=scale)


@pytest.mark.slow
def test_trains_with_groups_and_layer_decay(own_config, tiny_arrays, tmp_path):
    transfer = c.Transfer(layer_decay=0.5, groups=(c.Group("head.*", learning_rate_scale=0.25),))
    Scripted.VALUES[:] = [0.0] * 8
    for name, optimizer in (("own", OwnSGD()), ("ours", c.SGD(0.9))):
        train(own_config(optimizer=optimizer, transfer=transfer), tmp_path / name, arrays=tiny_arrays)
    train(own_config(transfer=c.Transfer(), metrics=()), tmp_path / "plain", arrays=tiny_arrays)
    own, ours, plain = (final_params(tmp_path / name) for name in ("own", "ours", "plain"))
    assert_same(own, ours, atol=1e-6)
    assert max(np.abs(own[path] - plain[path]).max() for path in own) > 1e-3


# ---- shapes and losses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(3), r"must return 4 numbers, one per entry, not float64 \[3\]"),
        (np.array(["a"] * 4), "must return 4 numbers"),
        (np.array([1.0, -1, 1, 1]), "gives the learning rate -1 at entry 1: it must be finite and not negative"),
        (np.array([1.0, 1, 1, np.inf]), "gives the learning rate inf at entry 3"),
    ],
)
def test_rates_that_are_none_are_explained(given, message):
    class Given(c.Shape):
        def rates(self, peak, *, entries, unit):
            return given

    with pytest.raises(UserError, match=f"Given.rates {message}"):
        schedules.build(c.Schedule(0.1, Given()), steps_per_epoch=2, epochs=2)


def test_rates_may_be_numbers_of_any_kind():
    class Whole(c.Shape):
        def rates(self, peak, *, entries, unit):
            return list(range(entries))

    assert schedules.build(c.Schedule(0.1, Whole()), steps_per_epoch=2, epochs=2).table.tolist() == [0, 1, 2, 3]


def test_a_loss_that_is_not_one_value_per_example_is_explained():
    class Mean(c.Loss):
        def build(self, *, num_classes, class_counts=None):
            return lambda logits, labels: jnp.mean((logits - labels) ** 2)

    loss = losses.build(Mean(), num_classes=3, class_counts=[1, 1, 1])
    with pytest.raises(UserError, match=r"the loss of Mean must return one float per example, shape \[4\], not shape"):
        loss(jnp.zeros((4, 3)), jnp.zeros((4, 3)))


# ---- runs -----------------------------------------------------------------------------------------------------------


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_clock(history):
    clock = ("seconds", "images_per_second", "waited_for_data")
    return [{name: value for name, value in record.items() if name not in clock} for record in history]


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical(own_config, tiny_arrays, tmp_path):
    Scripted.VALUES[:] = [4.0, 3.0, 2.0, 2.5, 9.0]
    config = own_config(epochs=4, best=c.Best("scripted"))
    whole = train(config, tmp_path / "whole", arrays=tiny_arrays)
    assert whole["best_epoch"] == 2 and whole["validation"]["scripted"] == 2.0 and whole["test"]["scripted"] == 9.0
    Scripted.VALUES[:] = [4.0, 3.0, RuntimeError("the power is gone")]
    with pytest.raises(RuntimeError, match="power"):
        train(config, tmp_path / "stopped", arrays=tiny_arrays)
    deadline = time.monotonic() + 20  # the second epoch's checkpoint is written in the background
    while not (tmp_path / "stopped" / "checkpoints" / "8").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    Scripted.VALUES[:] = [2.0, 2.5, 9.0]
    resumed = train(config, tmp_path / "stopped", arrays=tiny_arrays)
    assert Scripted.VALUES == []
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "stopped"))
    assert without_clock(records(tmp_path / "whole")) == without_clock(records(tmp_path / "stopped"))
    timeless = {"seconds": 0, "workdir": "", "history": without_clock(records(tmp_path / "whole"))}
    assert without_clock(resumed["history"]) == without_clock(whole["history"])
    assert resumed | timeless == whole | timeless


@pytest.mark.slow
def test_adapt_changes_the_next_epochs_rates(own_config, tiny_arrays, tmp_path):
    Scripted.VALUES[:] = [1.0, 3.0, 2.0, 4.0, 0.0]
    train(own_config(epochs=4), tmp_path, arrays=tiny_arrays)
    rates = [record["learning_rate"] for record in records(tmp_path)]
    assert rates[1:] == pytest.approx([0.05, 0.05 * 0.9 / 2, 0.05 * 0.81 / 2], rel=1e-6)


@pytest.mark.parametrize(
    ("higher", "values", "best"),
    [(False, [3.0, 1.0, 2.0, 1.5, 1.2], 1), (True, [1.0, 3.0, 2.0, 2.5, 2.9], 1), (False, [np.nan, 5.0, 6.0, 7.0], 1)],
)
def test_decides_the_best_checkpoint_and_early_stopping(
    higher, values, best, own_config, tiny_arrays, tmp_path, monkeypatch
):
    monkeypatch.setattr(Scripted, "higher_is_better", higher)
    Scripted.VALUES[:] = [*values[: best + 3], 0.0]
    config = own_config(epochs=6, best=c.Best("scripted"), early_stopping=c.EarlyStopping(patience=2))
    result = train(config, tmp_path, arrays=tiny_arrays)
    assert result["best_epoch"] == best
    assert result["epochs"] == best + 3
    assert result["validation"]["scripted"] == values[best]
    assert (tmp_path / "checkpoints" / str((best + 1) * 4)).exists()


@pytest.mark.slow
def test_a_plateau_of_any_metric_lowers_the_rate(own_config, tiny_arrays, tmp_path):
    schedule = c.Schedule(0.05, c.ReduceOnPlateau("scripted", factor=0.5, patience=0))
    Scripted.VALUES[:] = [3.0, 4.0, 2.0, 2.0, 0.0]
    config = own_config(epochs=4, optim=c.Optim(OwnSGD(), schedule))
    train(config, tmp_path, arrays=tiny_arrays)
    assert [record["learning_rate"] for record in records(tmp_path)] == pytest.approx([0.05, 0.05, 0.025, 0.025])


@pytest.mark.slow
def test_one_epoch_shortens_the_warmup_and_says_so(own_config, tiny_arrays, tmp_path, capsys):
    Scripted.VALUES[:] = [0.0] * 2
    train(own_config(epochs=1), tmp_path, arrays=tiny_arrays)
    out = " ".join(capsys.readouterr().out.split())
    assert "optim.schedule.warmup_epochs = 1 is shortened to 0, because training has only 1 epoch" in out
    assert records(tmp_path)[0]["learning_rate"] == pytest.approx(0.05)
