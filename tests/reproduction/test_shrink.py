"""A shorter training keeps its proportions."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.optim import schedules
from reproduction import shrink


def with_schedule(config, **changes):
    schedule = dataclasses.replace(config.optim.schedule, **changes)
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, schedule=schedule))


def rates(config):
    """The learning rate of every epoch's first step."""
    rate = schedules.build(config.optim.schedule, steps_per_epoch=4, epochs=config.epochs)
    return np.array([rate.at(4 * epoch) for epoch in range(config.epochs)])


@pytest.mark.parametrize(
    ("shape", "warmup", "shrunk", "shrunk_warmup"),
    [
        (c.Constant(), 0, c.Constant(), 0),
        (c.Step(every=8, factor=0.1), 0, c.Step(every=2, factor=0.1), 0),
        (c.MultiStep(at=(20, 30), factor=0.1), 4, c.MultiStep(at=(5, 8), factor=0.1), 1),
        (c.MultiStep(at=(20, 21), factor=0.1), 2, c.MultiStep(at=(5, 6), factor=0.1), 1),
        (c.Cosine(epochs=36), 4, c.Cosine(epochs=9), 1),
        (c.Cosine(), 0, c.Cosine(), 0),
        (c.Polynomial(2.0, epochs=36), 4, c.Polynomial(2.0, epochs=9), 1),
        (c.CosineRestarts(first=8, multiply=2), 0, c.CosineRestarts(first=2, multiply=2), 0),
        (c.ReduceOnPlateau(patience=10), 0, c.ReduceOnPlateau(patience=2), 0),
        (c.ReduceOnPlateau(patience=1), 0, c.ReduceOnPlateau(patience=1), 0),
        (c.ReduceOnPlateau(patience=0), 0, c.ReduceOnPlateau(patience=0), 0),
        (c.Cosine(epochs=38), 2, c.Cosine(epochs=9), 1),  # its end, the last epoch, stays the last: 9.5 is rounded down
        (c.Polynomial(epochs=18), 2, c.Polynomial(epochs=4), 1),
        (c.OneCycle(), 0, c.OneCycle(), 0),
    ],
    ids=lambda value: getattr(value, "shape", None),
)
def test_schedules_from_40_to_10_epochs(tiny_config, shape, warmup, shrunk, shrunk_warmup):
    config = with_schedule(tiny_config(epochs=40), shape=shape, warmup_epochs=warmup)
    schedule = shrink.to_epochs(config, 10).optim.schedule
    assert schedule.shape == shrunk
    assert schedule.warmup_epochs == shrunk_warmup
    assert schedule.peak == config.optim.schedule.peak


def test_exponential_decay_ends_where_it_ended(tiny_config):
    config = with_schedule(tiny_config(epochs=50), shape=c.Exponential(0.95))
    shrunk = shrink.to_epochs(config, 10)
    np.testing.assert_allclose(rates(shrunk), rates(config)[::5], rtol=1e-6)


@pytest.mark.parametrize(("every", "epochs"), [(7, 10), (1, 2), (7, 3)])
def test_steps_that_cannot_be_that_short_make_up_for_it(tiny_config, every, epochs):
    """Decay to the same rate at the end, as if there were fractions of an epoch."""
    config = with_schedule(tiny_config(epochs=20), shape=c.Step(every=every, factor=0.1))
    shape = shrink.to_epochs(config, epochs).optim.schedule.shape
    assert shape.factor ** (epochs / shape.every) == pytest.approx(0.1 ** (20 / every))


def test_what_begins_ends_thaws_or_waits(tiny_config):
    config = tiny_config(
        epochs=40,
        augment=(
            c.HorizontalFlip(),
            c.VerticalFlip(until_epoch=20),
            c.Rotation(15, from_epoch=30),
            c.Cutout(2, from_epoch=38, until_epoch=39),
        ),
        transfer=c.Transfer(
            freeze=("*",), allow_frozen_random=True, unfreeze=(c.Unfreeze("head.*", 1), c.Unfreeze("*", 20))
        ),
        early_stopping=c.EarlyStopping(patience=8, min_delta=0.1),
        optim=dataclasses.replace(tiny_config().optim, swa=c.SWA(from_epoch=30)),
    )
    shrunk = shrink.to_epochs(config, 4)
    assert [op.from_epoch for op in shrunk.augment] == [0, 0, 3, 3]
    assert [op.until_epoch for op in shrunk.augment] == [None, 2, None, 4]
    assert [entry.from_epoch for entry in shrunk.transfer.unfreeze] == [1, 2]
    assert shrunk.early_stopping == c.EarlyStopping(patience=1, min_delta=0.1)
    assert shrunk.optim.swa == c.SWA(from_epoch=3)
    assert (shrunk.batch_size, shrunk.seed, shrunk.data) == (config.batch_size, config.seed, config.data)


def test_what_began_later_does_not_begin_at_once(tiny_config):
    """Rounding to 0 would merge the phases; rounding to the end would lose one."""
    config = tiny_config(
        epochs=40,
        augment=(c.HorizontalFlip(from_epoch=1), c.VerticalFlip(from_epoch=39)),
        transfer=c.Transfer(freeze=("*",), allow_frozen_random=True, unfreeze=(c.Unfreeze("*", 38),)),
        optim=dataclasses.replace(tiny_config().optim, swa=c.SWA(from_epoch=1)),
    )
    shrunk = shrink.to_epochs(config, 2)
    assert [op.from_epoch for op in shrunk.augment] == [1, 1]
    assert shrunk.transfer.unfreeze[0].from_epoch == 1
    assert shrunk.optim.swa == c.SWA(from_epoch=1)
    one = shrink.to_epochs(config, 1)
    assert [op.from_epoch for op in one.augment] == [0, 0]
    assert one.optim.swa == c.SWA(from_epoch=0)


def test_a_full_length_changes_nothing(tiny_config):
    config = with_schedule(tiny_config(epochs=7), shape=c.Step(every=3, factor=0.1))
    assert shrink.to_epochs(config, 7) is config
