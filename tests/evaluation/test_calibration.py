"""Temperature, prediction sets and the threshold of "unknown", against torch and by simulation."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binom

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.predictions import Predictions


def simulated(n: int, seed: int, *, factor: float = 3.0, classes: int = 5) -> Predictions:
    """Labels drawn from the softmax of logits; the network says these times a factor: its temperature is the factor."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, classes))
    shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    labels = (rng.random((n, 1)) > shares.cumsum(1)).sum(1).clip(max=classes - 1).astype(np.int32)
    names = tuple(f"{i}.png" for i in range(n))
    return Predictions((factor * logits).astype(np.float32), labels, names, tuple("abcdefghij"[:classes]), "validation")


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_temperature_is_that_of_torchs_lbfgs_and_scipys_optimum(factor):
    made = simulated(800, 1, factor=factor)
    found = calibration.temperature(made.class_logits, made.labels)
    logits, labels = torch.tensor(made.class_logits), torch.tensor(made.labels, dtype=torch.long)
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits * inverse, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    ours = calibration.log_loss(made.class_logits / found, made.labels)
    assert ours == pytest.approx(float(closure().detach()), abs=1e-6)
    rows = np.arange(len(made))
    scipys = minimize_scalar(
        lambda b: (logsumexp(b * made.class_logits, axis=1) - b * made.class_logits[rows, made.labels]).mean(),
        bracket=(0.1, 1),
    )
    assert ours == pytest.approx(scipys.fun, abs=1e-6)
    assert found == pytest.approx(factor, rel=0.2)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_class_as_often_as_chosen(coverage):
    """Over 200 simulated pairs of a validation and a test set; the temperature is fitted on the validation set too."""
    hits, images, sizes = 0, 0, []
    for seed in range(200):
        fitted, test = calibration.fit(simulated(150, seed)), simulated(150, 10_000 + seed)
        inside = fitted.sets(test.class_logits, coverage)
        hits, images = hits + inside[np.arange(150), test.labels].sum(), images + 150
        sizes.append(inside.sum(1).mean())
    # Given the validation set, coverage varies by Beta(k, n + 1 − k), whose mean is k / (n + 1).
    rank = np.ceil(151 * coverage)
    mean, variance = rank / 151, rank * (151 - rank) / (151**2 * 152)
    slack = 3 * np.sqrt(variance / 200 + mean * (1 - mean) / images)
    assert mean - slack <= hits / images <= mean + slack + 0.01
    assert hits >= binom.ppf(0.001, images, coverage) - images * 3 * np.sqrt(variance / 200)
    assert 1 < np.mean(sizes) < 5


def test_small_validation_sets_make_sets_of_every_class():
    """Ten images cannot promise 99 %."""
    fitted = calibration.fit(simulated(10, 0))
    assert fitted.thresholds["0.99"] == 0 and fitted.sets(simulated(3, 1).class_logits, 0.99).all()
    assert fitted.thresholds["0.90"] > 0  # the tenth of ten: 10 ≥ 0.9 × 11


def test_quantile_is_the_conformal_one():
    """Of nine sorted values, the ceil(10 × 0.8) = eighth from above."""
    values = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])
    assert calibration._lower_quantile(values, 0.8) == 0.2


def test_energy_knows_what_the_network_has_not_seen():
    made = simulated(500, 2)
    np.testing.assert_allclose(calibration.energy(made.class_logits), logsumexp(made.class_logits, axis=1))
    fitted = calibration.fit(made, known=0.9)
    assert np.mean(calibration.energy(made.class_logits) < fitted.least_energy) == pytest.approx(0.1, abs=0.01)


def test_sigmoid_heads_have_a_temperature_and_no_energy(tmp_path):
    pair = simulated(400, 3, classes=2)
    single = Predictions(
        pair.logits[:, 1:] - pair.logits[:, :1], pair.labels, pair.names, pair.class_names, "validation"
    )
    ours, theirs = calibration.fit(single), calibration.fit(pair)
    assert ours.temperature == pytest.approx(theirs.temperature, rel=1e-4)
    assert ours.least_energy is None
    calibration.save(ours, tmp_path)
    assert calibration.load(tmp_path) == ours
    for coverage in (0.955, 1.0, -1):
        with pytest.raises(UserError, match="whole percentage"):
            ours.sets(pair.class_logits, coverage)
    (tmp_path / calibration.FILE).write_text('{"images": 3}')
    with pytest.raises(UserError, match="damaged, at views: Field required; `imgcls calibrate"):
        calibration.load(tmp_path)
    assert calibration.load(tmp_path / "other") is None


def test_a_model_card_without_a_calibration_or_with_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match="is not calibrated: calibrate the run that it comes from"):
        calibration.of_card({}, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="is not calibrated: `imgcls calibrate --workdir"):
        calibration.of_card({}, tmp_path)
    made = asdict(calibration.fit(simulated(20, 0)))
    assert asdict(calibration.of_card({"calibration": made}, tmp_path)) == made
    with pytest.raises(UserError, match="the calibration of x is damaged, at temperature"):
        calibration.of_card({"calibration": made | {"temperature": "hot"}}, "x")
    with pytest.raises(UserError, match="the calibration of x is damaged, at views"):
        calibration.of_card({"calibration": made | {"views": "sideways"}}, "x")
