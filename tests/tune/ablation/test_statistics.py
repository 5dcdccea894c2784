"""Intervals and effects against scipy's tests and a loop by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats

from imgcls_jax.tune.ablation import statistics


def test_paired_difference_is_scipys_paired_t():
    rng = np.random.default_rng(0)
    cell, baseline = rng.normal(0.8, 0.01, 5), rng.normal(0.7, 0.02, 5)
    ours = statistics.difference(dict(enumerate(cell)), dict(enumerate(baseline)))
    reference = scipy.stats.ttest_rel(cell, baseline).confidence_interval(0.95)
    assert ours.mean == pytest.approx((cell - baseline).mean())
    assert ours.interval == pytest.approx((reference.low, reference.high))
    assert ours.std == pytest.approx(np.std(cell - baseline, ddof=1))
    assert ours.count == 5


def test_only_seeds_that_both_have_are_paired():
    ours = statistics.difference({0: 0.9, 1: 0.5, 7: 0.1}, {1: 0.4, 0: 0.6, 3: 0.0})
    assert ours.mean == pytest.approx(0.2)
    assert ours.count == 2
    assert statistics.difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_has_no_interval():
    ours = statistics.estimate([0.5])
    assert (ours.mean, ours.std, ours.interval, ours.count) == (0.5, None, None, 1)
    assert statistics.estimate([]) is None


def test_main_effect_is_the_coefficient_of_a_balanced_regression():
    rng = np.random.default_rng(1)
    cells = [cell for n in range(4) for cell in itertools.combinations("abc", n)]
    scores = {cell: {seed: rng.normal() for seed in range(4)} for cell in cells}
    for place, factor in enumerate("abc"):
        per_seed = []
        for seed in range(4):  # least squares on an intercept and three 0/1 columns; balanced, so the effects are apart
            design = np.array([[1.0, *("abc"[i] in cell for i in range(3))] for cell in cells])
            coefficients, *_ = np.linalg.lstsq(design, np.array([scores[cell][seed] for cell in cells]), rcond=None)
            per_seed.append(coefficients[1 + place])
        ours = statistics.main_effect(scores, factor)
        reference = scipy.stats.ttest_1samp(per_seed, 0).confidence_interval(0.95)
        assert ours.mean == pytest.approx(np.mean(per_seed))
        assert ours.interval == pytest.approx((reference.low, reference.high))


def test_main_effect_leaves_out_seeds_without_all_cells():
    scores = {(): {0: 0.1, 1: 0.2}, ("a",): {0: 0.4}}
    ours = statistics.main_effect(scores, "a")
    assert ours.mean == pytest.approx(0.3)
    assert ours.count == 1
    assert statistics.main_effect({(): {0: 0.1}, ("a",): {}}, "a") is None
