"""Figures of several labels per image, and of numbers, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import tasks, thresholds
from imgcls_jax.evaluation.predictions import Predictions, load, save

RNG = np.random.default_rng(0)
POSITIVE = RNG.random((90, 4)) < (0.5, 0.2, 0.8, 0.05)
LOGITS = (np.round(3 * RNG.normal(size=(90, 4)), 1) + 2 * POSITIVE - 1).astype(np.float32)  # with ties
LABELS = POSITIVE.astype(np.uint8)
NAMES = ("a", "b", "c", "d")


def predictions(split: str = "validation", logits=LOGITS, labels=LABELS) -> Predictions:
    return Predictions(logits, labels, tuple(f"{i}.png" for i in range(len(labels))), NAMES, split)


def test_figures_of_labels_are_scikit_learns():
    found, named = tasks.figures(LOGITS, LABELS), LOGITS >= 0
    assert found["map"] == pytest.approx(sk.average_precision_score(POSITIVE, LOGITS, average="macro"), abs=1e-6)
    assert found["f1_micro"] == pytest.approx(sk.f1_score(POSITIVE, named, average="micro"))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(POSITIVE, named, average="macro"))
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(POSITIVE, named))


def test_a_label_without_images_has_no_average_precision_and_leaves_the_mean_to_the_others():
    labels = LABELS.copy()
    labels[:, 3] = 0
    mean = np.mean([sk.average_precision_score(POSITIVE[:, k], LOGITS[:, k]) for k in range(3)])
    assert tasks.figures(LOGITS, labels)["map"] == pytest.approx(mean, abs=1e-6)
    assert np.isnan(tasks.label_rows(LOGITS, labels, NAMES, [0.5] * 4)[3]["average_precision"])


def test_rows_of_labels_are_scikit_learns():
    chosen = [0.3, 0.5, 0.6, 0.7]
    named = tasks.sigmoid(LOGITS) >= chosen
    precision, recall, f1, support = sk.precision_recall_fscore_support(POSITIVE, named, zero_division=0)
    rows = tasks.label_rows(LOGITS, LABELS, NAMES, chosen)
    assert [row["images"] for row in rows] == support.tolist()
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose([row[name] for row in rows], expected)


def test_tuned_thresholds_have_the_highest_f1_of_all():
    shares = tasks.sigmoid(LOGITS)
    for k, threshold in enumerate(tasks.tune(shares, POSITIVE)):
        precision, recall, _ = sk.precision_recall_curve(POSITIVE[:, k], shares[:, k])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert sk.f1_score(POSITIVE[:, k], shares[:, k] >= threshold) == pytest.approx(best)


def test_a_label_that_no_validation_image_has_keeps_one_half():
    assert tasks.tune(np.array([[0.9], [0.2]]), np.zeros((2, 1), bool)) == [0.5]


def test_the_threshold_lies_between_images():
    shares = np.array([[0.9], [0.7], [0.1]])
    assert tasks.tune(shares, np.array([[True], [True], [False]])) == [pytest.approx(0.4)]


def test_figures_of_numbers_are_scikit_learns():
    truth = RNG.normal(size=(50, 2)).astype(np.float32)
    values = (truth + 0.3 * RNG.normal(size=(50, 2))).astype(np.float32)
    found = tasks.figures(values, truth)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, values), rel=1e-5)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, values), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(truth, values), rel=1e-5)


def test_outputs_that_are_not_finite_have_no_figures():
    broken = LOGITS.copy()
    broken[3, 1] = np.nan
    assert all(np.isnan(value) for value in tasks.figures(broken, LABELS).values())
    assert thresholds.of({"validation": predictions(logits=broken)}) is None


def test_thresholds_are_kept_and_read(tmp_path):
    made = predictions()
    tuned = thresholds.of({"validation": made})
    thresholds.save(tmp_path, made, tuned)
    assert thresholds.load(tmp_path, NAMES) == tuned
    assert thresholds.figures(made, tuned)["f1_macro_tuned"] == pytest.approx(
        sk.f1_score(POSITIVE, tasks.sigmoid(LOGITS) >= tuned, average="macro")
    )
    for names in (("a", "b"), ("a", "b", "d", "c")):
        with pytest.raises(UserError, match="damaged or of other labels"):
            thresholds.load(tmp_path, names)


def test_predictions_of_several_labels_are_kept(tmp_path):
    save(predictions(), tmp_path / "p.npz")
    found = load(tmp_path / "p.npz")
    assert found.task == "labels"
    np.testing.assert_array_equal(found.labels, LABELS)


def test_figures_of_classes_are_refused_in_one_sentence():
    with pytest.raises(UserError, match="is for one class per image, and this is a task of several labels per image"):
        _ = predictions().probabilities
