"""The figures of predictions, their intervals and comparisons, against scikit-learn, scipy and simulation."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import bootstrap, paired, predictions, ranking, scores
from imgcls_jax.evaluation.predictions import Predictions


def drawn(seed, count, classes, *, skill=1.5, ties=False):
    """Predictions of a network of some skill; `ties` rounds its outputs, so that many are equal."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(1, classes + 1))).astype(np.int32)
    if classes == 2:
        logits = random.normal(size=(count, 1)) + skill * (2 * labels[:, None] - 1) / 2
    else:
        logits = random.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
    logits = np.round(logits) if ties else logits
    names = tuple(f"{i}.png" for i in range(count))
    return Predictions(logits.astype(np.float32), labels, names, tuple(map(str, range(classes))), "test")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_figures_are_scikit_learns(classes, ties):
    made = drawn(0, 301, classes, ties=ties)
    found = scores.of(made)
    labels, predicted, shares = made.labels, made.predicted, made.probabilities
    one_hot = np.eye(classes)[labels]
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, average="macro"),
        "recall": metrics.recall_score(labels, predicted, average="macro"),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "weighted_f1": metrics.f1_score(labels, predicted, average="weighted"),
        "auroc": metrics.roc_auc_score(one_hot, shares, average="macro"),
        "average_precision": metrics.average_precision_score(one_hot, shares, average="macro"),
        "log_loss": metrics.log_loss(labels, shares),
        "brier": metrics.brier_score_loss(labels, shares[:, 1] if classes == 2 else shares),
    }
    for name, value in expected.items():
        assert found.overall[name] == pytest.approx(value, abs=1e-6), name
    assert set(found.overall) == {*expected, "ece"}
    for name, function in (("auroc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)):
        np.testing.assert_allclose(found.per_class[name], function(one_hot, shares, average=None), atol=1e-6)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, predicted))


def test_calibration_error_by_hand():
    confidence, right = np.array([0.61, 0.65, 0.95, 0.99]), np.array([True, False, True, True])
    # Bins of 1/15: (0.6, 0.667] holds two images of confidence 0.63 and accuracy 0.5, (0.933, 1] two of 0.97 and 1.
    assert scores.calibration_error(confidence, right) == pytest.approx((2 * 0.13 + 2 * 0.03) / 4)


def test_a_class_without_images_or_predictions_does_not_count():
    logits = np.array([[2, 0, 1, 0], [0, 2, 1, 0], [2, 0, 1, 0], [0, 0, 2, 0]], np.float32)
    made = Predictions(logits, np.array([0, 1, 1, 0], np.int32), tuple("abcd"), tuple("wxyz"), "test")
    found = scores.of(made)
    labels, predicted = made.labels, made.predicted
    assert found.overall["f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro", zero_division=0))
    assert found.overall["balanced_accuracy"] == pytest.approx(0.5)
    assert np.isnan(found.per_class["recall"]).tolist() == [False, False, True, True]
    assert np.isnan(found.per_class["precision"]).tolist() == [False, False, False, True]
    edges = bootstrap.class_intervals(found, bootstrap.replicates(made, resamples=50))
    assert np.isnan(edges["recall"]).any(axis=1).tolist() == [False, False, True, True]


def test_every_draw_has_the_figures_of_the_images_drawn():
    made = drawn(1, 60, 4)
    replicates = bootstrap.replicates(made, resamples=5, seed=3)
    rows = np.concatenate(list(bootstrap.draws(60, 5, 3)))
    for draw, chosen in enumerate(rows):
        again = scores.of(
            dataclasses.replace(
                made, logits=made.logits[chosen], labels=made.labels[chosen], names=tuple(map(str, chosen))
            )
        )
        for name, values in replicates.overall.items():
            assert values[draw] == pytest.approx(again.overall[name], abs=1e-9), name
        for name, values in replicates.per_class.items():
            np.testing.assert_allclose(values[draw], again.per_class[name], atol=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", ranking.FIGURES)
def test_influences_are_derivatives_of_scikit_learns_figures(name, ties):
    made = drawn(2, 40, 3, ties=ties)
    positive, score = made.labels == 2, made.probabilities[:, 2]
    theirs = {"auroc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}[name]
    value, influence = ranking.FIGURES[name](score, positive)
    assert value == pytest.approx(theirs(positive, score), abs=1e-9)
    step = 1e-5
    for i in range(40):
        weight = np.ones(40)
        weight[i] += step
        change = (theirs(positive, score, sample_weight=weight) - value) / step
        assert influence[i] == pytest.approx(change, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("overconfident", [pytest.param(1.0, marks=pytest.mark.deep), 2.0])  # 1: calibrated exactly
def test_intervals_hold_the_truth_as_often_as_they_say(overconfident):
    def simulate(seed, count):
        made = drawn(seed, count, 3, skill=1.0)
        prior = np.log(np.arange(1, 4) / 6)
        return dataclasses.replace(made, logits=(overconfident * (made.logits + prior)).astype(np.float32))

    truth = scores.of(simulate(999, 100_000)).overall
    if overconfident == 1:
        assert truth["ece"] < 0.005
        truth["ece"] = 0.0
    simulated, inside = 200, dict.fromkeys(truth, 0)
    for seed in range(simulated):
        made = simulate(seed, 250)
        found = bootstrap.intervals(scores.of(made), bootstrap.replicates(made, resamples=200, seed=seed))
        for name, (low, high) in found.items():
            inside[name] += low <= truth[name] <= high
    fewest = stats.binom.ppf(0.001, simulated, 0.93)
    assert min(inside.values()) >= fewest, inside


@pytest.mark.slow
def test_intervals_of_differences_hold_the_truth_as_often_as_they_say():
    """Of a second network that is the first one with noise on its outputs."""

    def simulate(seed, count):
        first = drawn(seed, count, 3, skill=1.0)
        noise = np.random.default_rng([seed, 1]).normal(size=first.logits.shape).astype(np.float32)
        return first, dataclasses.replace(first, logits=first.logits + noise)

    before, after = (scores.of(made).overall for made in simulate(999, 30_000))
    simulated, inside = 200, dict.fromkeys(set(before) - {"ece"}, 0)
    for seed in range(simulated):
        found = paired.compare(*simulate(seed, 150), resamples=100, seed=seed)
        for name, (_, (low, high)) in found.differences.items():
            inside[name] += low <= after[name] - before[name] <= high
    assert min(inside.values()) >= stats.binom.ppf(0.001, simulated, 0.93), inside


def test_paired_differences_and_mcnemar():
    first = drawn(5, 400, 3)
    noise = np.random.default_rng(6).normal(size=first.logits.shape, scale=0.5).astype(np.float32)
    second = dataclasses.replace(first, logits=first.logits + noise)
    found = paired.compare(first, second)
    change, (low, high) = found.differences["accuracy"]
    assert change == pytest.approx(second.right.mean() - first.right.mean())
    # The exact standard error of a paired difference of shares.
    error = np.std(second.right.astype(float) - first.right) / np.sqrt(400)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    unpaired = 1.96 * np.sqrt((first.right.var() + second.right.var()) / 400)
    assert (high - low) / 2 < 0.8 * unpaired
    assert found.only_first == (first.right & ~second.right).sum()
    assert found.p_value == pytest.approx(
        stats.binomtest(found.only_first, found.only_first + found.only_second).pvalue
    )

    order = np.random.default_rng(0).permutation(400)
    shuffled = Predictions(
        second.logits[order], second.labels[order], tuple(first.names[i] for i in order), first.class_names, "test"
    )
    assert paired.compare(first, shuffled) == found
    assert paired.compare(first, first).p_value == 1
    with pytest.raises(UserError, match="other test images"):
        paired.compare(first, dataclasses.replace(first, names=("x", *first.names[1:])))


def test_mcnemar_by_hand():
    # Of 10 images that one alone gets right, 1 or fewer, or 9 or more: 2 · (1 + 10) / 1024
    assert paired.mcnemar(1, 9) == pytest.approx(22 / 1024)


def test_a_file_comes_back_and_damage_is_named(tmp_path):
    made = drawn(0, 5, 3)
    path = predictions.path_of(tmp_path, "test")
    predictions.save(made, path)
    again = predictions.load(path)
    np.testing.assert_array_equal(again.logits, made.logits)
    np.testing.assert_array_equal(again.labels, made.labels)
    assert (again.names, again.class_names, again.split, again.views) == (
        made.names,
        made.class_names,
        "test",
        "center",
    )
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged or no file of predictions"):
        predictions.load(path)
    with pytest.raises(UserError, match="imgcls evaluate --workdir"):
        predictions.load(tmp_path / "predictions_validation.npz")


def test_outputs_that_are_not_finite_are_refused():
    made = drawn(0, 5, 3)
    made.logits[3, 1] = np.nan
    with pytest.raises(UserError, match="the outputs for 1 of 5 test images are NaN or infinite, the first is 3.png"):
        scores.of(made)
    made.logits[3, 1] = -np.inf  # a probability of exactly 0
    scores.of(dataclasses.replace(made))
