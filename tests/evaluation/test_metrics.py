"""Metrics of the config: exact for any batches and devices, equal to scikit-learn's, and usable by name."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn import metrics as sklearn

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import metrics
from imgcls_jax.evaluation.metrics import BalancedAccuracy, MacroF1, TopK
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.validate import validate

ALL = (TopK(2), TopK(3), BalancedAccuracy(), MacroF1())


@pytest.fixture(autouse=True)
def _forget():
    """Metrics that tests define are not there for other tests."""
    before = dict(c.Metric.registered)
    yield
    registered = c.Metric.registered
    for kind in registered.keys() - before.keys():
        del registered[kind]


def evaluated(logits, labels, *, batch=16, several=ALL):
    """The result over batches of which the last is padded with images that must not count."""
    figures = metrics.init(several, logits.shape[1])
    update = jax.jit(lambda figures, **batch: metrics.update(figures, several, **batch))
    for start in range(0, len(logits), batch):
        rows = np.arange(start, start + batch)
        mask = rows < len(logits)
        rows = np.where(mask, rows, 0)
        loss = jnp.ones(batch)
        figures = update(figures, loss=loss, logits=jnp.asarray(logits[rows]), label=labels[rows], mask=mask)
    return metrics.result(figures, several)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed):
    random = np.random.RandomState(seed)
    labels = random.choice(6, 101, p=[0.5, 0.3, 0.1, 0.05, 0.05, 0]).astype(np.int32)  # class 5 has no examples
    logits = random.randn(101, 6).astype(np.float32) + 2 * np.eye(6, dtype=np.float32)[labels]
    logits[:, 4] -= 100 * (seed == 1)  # class 4 is never predicted
    logits[:, 5] -= 100 * (seed == 2)  # class 5 is neither a label nor predicted
    result = evaluated(logits, labels)
    predicted = logits.argmax(1)
    # scikit-learn's balanced_accuracy_score is this, and warns of classes that are only predicted.
    recall = sklearn.recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert result["balanced_accuracy"] == pytest.approx(recall, abs=1e-6)
    assert result["macro_f1"] == pytest.approx(
        sklearn.f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-6
    )
    for k in (2, 3):
        theirs = sklearn.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(6))
        assert result[f"top{k}"] == pytest.approx(theirs, abs=1e-6)
    assert result["top1"] == pytest.approx((predicted == labels).mean(), abs=1e-6)
    assert result["count"] == 101
    assert list(result) == ["loss", "top1", "top5", "count", "top2", "top3", "balanced_accuracy", "macro_f1"]


def test_of_one_sigmoid_output():
    random = np.random.RandomState(0)
    logits, labels = random.randn(50, 1).astype(np.float32), random.randint(0, 2, 50).astype(np.int32)
    predicted = (logits[:, 0] > 0).astype(int)
    result = evaluated(logits, labels)
    assert result["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted), abs=1e-6)
    assert result["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-6)
    assert result["top2"] == 1


def test_a_row_with_nan_is_right_for_no_class():
    logits = np.array([[np.nan, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    result = evaluated(logits, np.array([0, 0], np.int32))
    assert result["top2"] == result["balanced_accuracy"] == 0.5
    assert result["macro_f1"] == pytest.approx(2 / 3)  # 2 · 1 right / (1 predicted + 2 labeled)


FIGURES = ("precision", "weighted_f1", "auroc", "average_precision", "log_loss", "brier", "ece")


@pytest.mark.parametrize("devices", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_an_evaluation_counts_every_image_once(devices, feed, tiny_config, tiny_arrays):
    settings = dataclasses.replace(tiny_config().data, feed=feed)
    config = tiny_config(metrics=ALL[:1] + ALL[2:], mesh=c.Mesh(devices=devices), data=settings)
    validate(config, devices)
    run = Experiment(config, data.load(settings, arrays=tiny_arrays), meshes.make(config.mesh))
    state = run.initial_state()
    variables = run.evaluation_variables(state, 0)
    result = run.test(variables)
    assert result == run.test(variables)

    model = nnx.merge(run.model.evaluate, *variables)
    logits = np.asarray(model(jnp.asarray((tiny_arrays["x_test"] / 255 - 0.5) / 0.25, np.float32)))
    labels, predicted = tiny_arrays["y_test"], logits.argmax(1)
    assert result["count"] == 27
    assert result["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted), abs=1e-6)
    assert result["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-6)
    assert result["top2"] == pytest.approx(sklearn.top_k_accuracy_score(labels, logits, k=2), abs=1e-6)
    again, kept = run.test.predict(variables, run.dataset.class_names)
    assert again == result
    np.testing.assert_allclose(kept.logits, logits, atol=1e-4)
    np.testing.assert_array_equal(kept.labels, labels)
    assert (len(kept.names), kept.split, kept.views) == (27, "test", "center")
    figures = dataclasses.replace(config, metrics=tuple(map(c.Score, FIGURES)))
    found = Experiment(figures, run.dataset, run.mesh).test(variables)
    shares, one_hot = jax.nn.softmax(logits), np.eye(3)[labels]
    assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(one_hot, shares), abs=1e-6)
    assert found["log_loss"] == pytest.approx(sklearn.log_loss(labels, shares), abs=1e-5)
    assert list(found) == ["loss", "top1", "top5", "count", *FIGURES]
    plain = Experiment(tiny_config(data=settings, mesh=config.mesh), run.dataset, run.mesh).test(variables)
    assert plain == {name: result[name] for name in ("loss", "top1", "top5", "count")}


def test_a_metric_that_counts_padding_is_refused():
    class Greedy(c.Metric):
        name: ClassVar[str] = "greedy"

        def sums(self, logits, labels, mask):
            return jnp.ones(())

    with pytest.raises(UserError, match='the metric "greedy" counts padding: rows whose mask is False must add zero'):
        metrics.init((Greedy(),), 3)


class Nameless(c.Metric):
    """Forgets its name."""


MESSAGES = [
    (dict(metrics=(TopK(5),)), 'metrics[0]: TopK is named "top5", which every evaluation gives: rename or remove it'),
    (dict(metrics=(TopK(2), TopK(2))), 'metrics[1]: TopK is named "top2", as TopK is'),
    (dict(metrics=(Nameless(),)), "metrics[0]: Nameless has no name: declare"),
    (
        dict(metrics=(MacroF1(),), best=c.Best("macrof1")),
        'best.metric names the metric "macrof1", which no evaluation computes: take one of loss, top1, top5, macro_f1,',
    ),
    (
        dict(optim=c.Optim(c.SGD(), c.Schedule(0.1, c.ReduceOnPlateau("macro_f1")))),
        'optim.schedule.shape (ReduceOnPlateau) names the metric "macro_f1", which no evaluation computes',
    ),
]


@pytest.mark.parametrize(("changes", "message"), MESSAGES)
def test_names_that_cannot_be_used_are_explained(changes, message, tiny_config):
    with pytest.raises(UserError) as error:
        validate(tiny_config(**changes), 1)
    assert message in str(error.value)


def test_names_of_the_configs_metrics_can_be_used(tiny_config):
    plateau = c.Optim(c.SGD(), c.Schedule(0.1, c.ReduceOnPlateau("macro_f1")))
    validate(tiny_config(metrics=(MacroF1(),), best=c.Best("macro_f1"), optim=plateau), 1)
    for figure in FIGURES:
        validate(tiny_config(metrics=(c.Score(figure),), best=c.Best(figure)), 1)
    assert metrics.score({"brier": 0.5}, "brier", (c.Score("brier"),)) == -0.5
    assert math.isnan(c.Score("auroc").of_all(np.full((2, 3), np.nan, np.float32), np.zeros(2, np.int32)))


def test_scores_are_turned_so_that_higher_is_better():
    class Error(c.Metric):
        name: ClassVar[str] = "error"
        higher_is_better: ClassVar[bool] = False

    values = {"loss": 2.0, "top1": 0.5, "error": 0.25, "macro_f1": math.nan}
    several = (Error(), MacroF1())
    scores = {name: metrics.score(values, name, several) for name in values}
    assert scores == {"loss": -2.0, "top1": 0.5, "error": -0.25, "macro_f1": -math.inf}
    assert metrics.directions(several).items() >= {
        "loss": False, "top1": True, "top5": True, "error": False, "macro_f1": True,
    }.items()  # fmt: skip
