"""Sharing a budget, and timing steps."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from imgcls_jax import config as c
from reproduction import budget


@pytest.mark.parametrize(
    ("costs", "least", "seconds", "allotted"),
    [
        ([10, 10], [1, 1], 30, [10, 10]),  # all fit
        ([10, 10], [1, 1], 10, [5, 5]),
        ([100, 2, 100], [1, 1, 1], 42, [20, 2, 20]),  # what the cheap one leaves goes to the others
        ([5, 40, 1000], [1, 1, 1], 105, [5, 40, 60]),
        ([100, 300, 100], [10, 30, 10], 60, [30, 0, 30]),  # 20 each would be too little for the second
        ([100, 300, 100], [10, 30, 11], 15, [15, 0, 0]),
        ([3, 4], [1, 1], 0, [0, 0]),
        ([], [], 10, []),
    ],
)
def test_allot(costs, least, seconds, allotted):
    assert budget.allot(costs, least, seconds) == pytest.approx(allotted)


def test_an_epochs_time_is_its_steps_and_a_third_for_validation(tiny_config, tiny_arrays, monkeypatch):
    clock = itertools.count(0)  # of 10 ms ticks

    def dispatches(training, state):
        while True:  # two steps, between two looks at the clock
            yield jnp.zeros(()), 2

    monkeypatch.setattr(budget.feed, "endless", dispatches)
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: 0.01 * next(clock)))
    # 72 training images are 4 steps of 16; 21 validation images cost as much as 7 of training
    seconds = budget.seconds_per_epoch(tiny_config(), arrays=tiny_arrays)
    assert seconds == pytest.approx(0.005 * (4 + 21 / 16 / 3), rel=0.01)


def test_real_steps_are_timed_without_the_weights(tiny_config, tiny_arrays, monkeypatch):
    monkeypatch.setattr(budget, "_SECONDS", 0.05)
    transfer = c.Transfer(init_from="no such file", replace=("head.*",), freeze=("convs.*",))
    config = dataclasses.replace(tiny_config(), transfer=transfer)
    assert 0 < budget.seconds_per_epoch(config, arrays=tiny_arrays) < 5
