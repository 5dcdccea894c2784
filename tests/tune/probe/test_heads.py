"""The heads of a probe against what their definitions say, computed independently."""

import numpy as np
import pytest
import scipy.optimize
from cleanlab.filter import find_label_issues
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from imgcls_jax.evaluation import suspects
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.tune.probe import heads


def blobs(classes, count=90, width=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centers = rng.normal(0, 1.5, (classes, width))
    return (3 + centers[labels] + rng.normal(0, 1.5, (count, width))).astype(np.float32), labels


def minimum(features, labels, strength, classes):
    """The probabilities of the training examples at the minimum of the stated loss, found by scipy in float64."""
    x = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    x /= np.sqrt((x**2).mean())

    def loss(flat):
        kernel, bias = np.split(flat, [x.shape[1] * classes])
        kernel = kernel.reshape(-1, classes)
        logits = x @ kernel + bias
        probabilities = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        error = (probabilities - np.eye(classes)[labels]) / len(x)
        value = -np.log(probabilities[np.arange(len(x)), labels]).mean() + strength / 2 * (kernel**2).sum()
        return value, np.concatenate([(x.T @ error + strength * kernel).ravel(), error.sum(0)])

    start = np.zeros((x.shape[1] + 1) * classes)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    kernel, bias = np.split(found.x, [x.shape[1] * classes])
    return x @ kernel.reshape(-1, classes) + bias


def softmax(logits):
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("strength", [1.0, 0.03])
def test_the_linear_head_minimizes_the_stated_loss(classes, strength):
    """It takes the features as they are, and a strength means the same for two classes as for more."""
    features, labels = blobs(classes)
    head = heads.linear(features, labels, strength, classes)
    expected = softmax(minimum(features, labels, strength, classes))
    assert head.converged
    np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=2e-3)


def test_a_class_without_images_is_never_predicted():
    features, labels = blobs(3)
    head = heads.linear(features, np.where(labels == 1, 3, labels), 0.1, 5)
    assert head.kernel.shape == (6, 5)
    assert set(head.logits(features).argmax(-1)) == {0, 2, 3}


def test_the_path_is_that_of_separate_fits_and_the_strongest_of_equals_is_taken():
    features, labels = blobs(3)
    parts = heads.folds(labels, 3, seed=0)
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(90))
    assert all(np.bincount(labels[test]).tolist() == [10, 10, 10] for _, test in parts)
    found = heads.path(features, labels, [0.01, 1.0, 0.1], parts, lambda *_: None)
    assert [choice.value for choice in found] == [1.0, 0.1, 0.01]
    for choice in found:
        right = [
            (heads.linear(features[a], labels[a], choice.value, 3).logits(features[b]).argmax(-1) == labels[b]).mean()
            for a, b in parts
        ]
        assert choice.top1 == pytest.approx(np.mean(right), abs=0.012)  # one example may lie on a border
        assert choice.std == pytest.approx(np.std(right), abs=0.02)
    assert heads.best([heads.Choice(9, 0.5, 0), heads.Choice(3, 0.7, 0), heads.Choice(1, 0.7, 0)]).value == 3


@pytest.mark.parametrize("classes", [2, 4])
def test_wrong_labels_out_of_fold_are_those_of_scikit_learn_and_cleanlab(classes):
    """The same folds, a fit of scikit-learn's for each, and cleanlab's candidates, most of them changed labels."""
    features, truth = blobs(classes, count=240, width=8)
    rng = np.random.default_rng(1)
    changed = rng.choice(240, 12, replace=False)
    labels = truth.copy()
    labels[changed] = (truth[changed] + 1) % classes
    parts, strength = heads.folds(labels, 4, seed=0), 0.03
    logits = heads.held_out(features, labels, strength, classes, parts)
    probabilities = np.empty((240, classes))
    for train, test in parts:
        mean = features[train].mean(0, dtype=np.float64)
        scaled = (features - mean) / np.sqrt(((features[train] - mean) ** 2).mean())
        # Of two classes, scikit-learn fits one vector in place of two opposite ones.
        cost = (2 if classes == 2 else 1) / (strength * len(train))
        theirs = LogisticRegression(C=cost, max_iter=1000, tol=1e-8).fit(scaled[train], labels[train])
        probabilities[test] = theirs.predict_proba(scaled[test])
    np.testing.assert_allclose(softmax(logits), probabilities, atol=2e-3)
    names = tuple(map(str, range(240)))
    made = Predictions(logits, labels.astype(np.int32), names, tuple("abcd"[:classes]), "train")
    ours = {int(suspect.name) for suspect in suspects.wrong_labels(made)}
    assert ours == set(find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence",
                                         filter_by="confident_learning", n_jobs=1).tolist())  # fmt: skip
    assert len(ours & set(changed.tolist())) > 0.6 * len(ours) and len(ours) > 6


def test_folds_of_a_class_with_too_few_images_are_not_stratified():
    parts = heads.folds(np.array([0] * 9 + [1]), 5, seed=0)
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(10))


def test_neighbors_vote_by_cosine_similarity():
    features, labels = blobs(3)
    parts = heads.folds(labels, 3, seed=1)
    found = heads.nearest(features, labels, [1, 5, 100], parts)
    assert [choice.value for choice in found] == [1, 5]  # 100 are more than a fold leaves
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = []
    for train, test in parts:
        order = np.argsort(-unit[test] @ unit[train].T, axis=1)[:, :5]
        votes = np.stack([np.bincount(labels[train][row], minlength=3) for row in order])
        right.append((votes.argmax(1) == labels[test]).mean())
    assert found[1].top1 == pytest.approx(np.mean(right))
