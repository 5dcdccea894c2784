import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.optim import checks, schedules

PEAK = 0.1


def named(epochs: int) -> dict[str, c.Schedule]:
    """The settings that mean what the golden script's torch schedulers of the same names do."""
    restarts = c.CosineRestarts(first=10, multiply=2)
    return {
        "constant": c.Schedule(PEAK, c.Constant()),
        "step": c.Schedule(PEAK, c.Step(7, 0.1)),
        "step_each": c.Schedule(PEAK, c.Step(1, 0.9)),
        "multi_step": c.Schedule(PEAK, c.MultiStep((30, 60, 90), 0.2)),
        "exponential": c.Schedule(PEAK, c.Exponential(0.95)),
        "polynomial": c.Schedule(PEAK, c.Polynomial(0.9)),
        "linear_short": c.Schedule(PEAK, c.Polynomial(epochs=40)),
        "cosine": c.Schedule(PEAK, c.Cosine(final=1e-4)),
        "cosine_short": c.Schedule(PEAK, c.Cosine(epochs=40)),
        "cosine_restarts": c.Schedule(PEAK, restarts),
        "cosine_restarts_equal": c.Schedule(PEAK, c.CosineRestarts(first=12, final=1e-3)),
        "warmup_cosine_restarts": c.Schedule(PEAK, restarts, warmup_epochs=5),
        "warmup_step": c.Schedule(PEAK, c.Step(7, 0.5), warmup_epochs=5),
        "warmup_multi_step": c.Schedule(PEAK, c.MultiStep((30, 60), 0.2), warmup_epochs=5),
        "warmup_cosine": c.Schedule(PEAK, c.Cosine(), warmup_epochs=5, warmup_from=0.01),
        "warmup_exponential": c.Schedule(PEAK, c.Exponential(0.95), warmup_epochs=5),
        "one_cycle": c.Schedule(PEAK, c.OneCycle()),
    }


def rates(schedule: c.Schedule, *, steps_per_epoch: int, epochs: int) -> np.ndarray:
    """Of every step, looked up inside jit."""
    rate = schedules.build(schedule, steps_per_epoch=steps_per_epoch, epochs=epochs)
    return np.asarray(jax.jit(jax.vmap(rate))(jnp.arange(steps_per_epoch * epochs)))


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("name", list(named(1)))
def test_equals_torch(name, per, golden, reference):
    length = reference["BY_EPOCH" if per == "epoch" else "BY_STEP"]
    schedule = dataclasses.replace(named(length["epochs"])[name], per=per)
    # By epoch, every step of an epoch has its rate.
    repeats = 3 if per == "epoch" else 1
    ours = rates(schedule, steps_per_epoch=length["unit"] * repeats, epochs=length["epochs"])
    theirs = np.repeat(golden[f"schedule/{per}/{name}"], repeats)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * PEAK)


def test_restarts_after_warmup_are_at_15_35_75_and_155():
    schedule = c.Schedule(1.0, c.CosineRestarts(first=10, multiply=2), warmup_epochs=5, per="epoch")
    rate = rates(schedule, steps_per_epoch=1, epochs=200)
    assert np.flatnonzero(np.diff(rate) > 0.5).tolist() == [14, 34, 74, 154]
    assert np.flatnonzero(rate == 1).tolist() == [5, 15, 35, 75, 155]


def test_restarts_decay_each_cycle():
    schedule = c.Schedule(1.0, c.CosineRestarts(first=4, multiply=1, decay=0.5, final=0.2), per="epoch")
    rate = rates(schedule, steps_per_epoch=1, epochs=16)
    np.testing.assert_allclose(rate[::4], [1, 0.5, 0.25, 0.2], rtol=1e-6)
    np.testing.assert_allclose(rate[2::4], [0.6, 0.35, 0.225, 0.2], rtol=1e-6)


def test_stays_at_the_last_rate_after_the_end():
    rate = schedules.build(c.Schedule(1.0, c.Polynomial()), steps_per_epoch=5, epochs=2)
    assert rate(9) == rate(10) == rate(1000) == pytest.approx(0.1)


def test_host_and_device_agree():
    rate = schedules.build(c.Schedule(0.3, c.Cosine(), warmup_epochs=1), steps_per_epoch=7, epochs=3)
    assert [rate.at(step) for step in range(25)] == [float(rate(step)) for step in range(25)]


def optim(optimizer=None, *, shape=None, peak=0.1, warmup=0, per="step", **settings) -> c.Optim:
    schedule = c.Schedule(peak, shape or c.Constant(), warmup_epochs=warmup, per=per)
    return c.Optim(optimizer or c.AdamW(), schedule, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (optim(shape=c.OneCycle(), warmup=1), "OneCycle brings its own warm-up"),
        (optim(shape=c.OneCycle(0.1), per="epoch"), "warmup_share is 0.1, of 10 learning rates"),
        (optim(shape=c.Cosine(final=0.2)), r"least learning rate .* 0.2, above optim.schedule.peak 0.1"),
        (optim(shape=c.ReduceOnPlateau(minimum=0.2)), "least learning rate"),
        (optim(c.SGD(nesterov=True)), "nesterov needs a momentum"),
        (optim(c.Muon(rest=c.SGD(nesterov=True))), "rest.nesterov needs a momentum above 0: set optim.optimizer.rest."),
        (optim(c.ScheduleFreeAdamW(), shape=c.Cosine()), "replaces the schedule, but optim.schedule.shape is Cosine"),
        (optim(c.ScheduleFreeAdamW(), ema=c.EMA(0.9)), "set optim.ema to None"),
        (optim(c.ScheduleFreeAdamW(), lookahead=c.Lookahead()), "set optim.lookahead to None"),
        (optim(ema=c.EMA(0.9), swa=c.SWA(0)), "set one of them to None"),
        (optim(swa=c.SWA(10)), "swa.from_epoch is 10, but the last epoch is 9"),
    ],
)
def test_contradictions_are_explained(settings, message):
    with pytest.raises(UserError, match=message):
        checks.check(settings, epochs=10)


def test_sound_settings_pass():
    checks.check(optim(c.SGD(0.9, True), shape=c.Cosine(final=0.1), warmup=9, ema=c.EMA(0.99)), epochs=10)
    checks.check(optim(c.ScheduleFreeAdamW(), warmup=2), epochs=10)
    checks.check(optim(shape=c.OneCycle(0.3), swa=c.SWA(9)), epochs=10)


def test_build_refuses_a_one_cycle_that_cannot_rise():
    with pytest.raises(UserError, match="warmup_share"):
        schedules.build(c.Schedule(0.1, c.OneCycle(0.1)), steps_per_epoch=2, epochs=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: c.MultiStep((5, 3), 0.1), r"epochs must be increasing, not \[5, 3\]"),
        (lambda: c.MultiStep((3, 3), 0.1), r"epochs must be increasing, not \[3, 3\]"),
        (lambda: c.ScheduleFreeAdamW(b1=0.0), "greater than 0"),
    ],
)
def test_one_setting_that_is_wrong_by_itself_is_refused_when_it_is_made(settings, message):
    with pytest.raises(ValidationError, match=message):
        settings()


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (2, 1), (5, 4), (6, 5), (7, 5)])
def test_a_warmup_leaves_the_last_epoch_to_the_shape(epochs, warmup):
    schedule = c.Schedule(PEAK, c.Cosine(), warmup_epochs=5, per="epoch")
    rate = rates(schedule, steps_per_epoch=1, epochs=epochs)
    shortened = rates(dataclasses.replace(schedule, warmup_epochs=warmup), steps_per_epoch=1, epochs=epochs)
    np.testing.assert_array_equal(rate, shortened)
    assert rate[warmup] == np.float32(PEAK)
    said = schedules.notes(schedule, epochs)
    assert said == [] if epochs > 5 else f"warmup_epochs = 5 is shortened to {warmup}" in said[0]
