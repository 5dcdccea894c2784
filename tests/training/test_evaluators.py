"""Named evaluators: images, preprocessing and cadence of their own."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.inference import restore
from imgcls_jax.training import evaluators

NAMES = np.array(["red", "green", "blue"])
AVERAGE = c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="average", head=c.Head())


@pytest.fixture
def shifted(tiny_arrays, tmp_path):
    """A file of 15 brighter images, of the classes blue and red alone, in another order."""
    images = np.clip(tiny_arrays["x_validation"].astype(int) + 40, 0, 255).astype(np.uint8)
    labels = tiny_arrays["y_validation"]
    chosen = labels != 1
    path = tmp_path / "shifted.npz"
    here = np.where(labels[chosen] == 2, 0, 1)  # blue is 0 here and 2 in training, red is 1 and 0
    np.savez(path, x_train=images[chosen], y_train=here, label_names=np.array(["blue", "red"]))
    return path, images[chosen], labels[chosen]


def records(workdir, kind):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [record for record in lines if record["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_figures_of_another_source_by_hand(feed, shifted, tiny_config, tiny_arrays, tmp_path):
    path, images, labels = shifted
    evaluator = c.Evaluator("shifted", source=c.Arrays(str(path)), mean=(0.6, 0.5, 0.4), std=(0.2, 0.25, 0.5))
    config = tiny_config(data=dataclasses.replace(tiny_config().data, feed=feed), evaluators=(evaluator,))
    result = ic.train(config, tmp_path / "run", arrays=tiny_arrays | {"label_names": NAMES})

    trained = restore.of_run(tmp_path / "run")
    model = config.model.build(num_classes=3, channels=3, image_size=(8, 8), dtype=np.float32, rngs=nnx.Rngs(0))
    view = nnx.view(model, deterministic=True, use_running_average=True, update_running=False)
    graph, params, stats = nnx.split(view, nnx.Param, nnx.BatchStat)
    values = trained.params | trained.stats
    for tree in (params, stats):
        nnx.replace_by_pure_dict(tree, _fill(nnx.to_pure_dict(tree), values))
    seen = (images / 255 - np.array([0.6, 0.5, 0.4])) / np.array([0.2, 0.25, 0.5])
    logits = np.asarray(nnx.merge(graph, params, stats)(jnp.asarray(seen, np.float32)), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    figures = result["evaluators"]["shifted"]
    assert figures["count"] == len(labels) == 14
    assert figures["top1"] == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-7)
    assert figures["loss"] == pytest.approx(-log_p[np.arange(14), labels].mean(), rel=1e-4)
    assert result["history"][result["best_epoch"]]["evaluators"]["shifted"] == figures


def _fill(tree, values, path=""):
    if not isinstance(tree, dict):
        return values[path]
    return {key: _fill(value, values, f"{path}.{key}".lstrip(".")) for key, value in tree.items()}


@pytest.mark.slow
def test_an_evaluator_of_the_same_images_repeats_their_figures(tiny_config, tiny_arrays, tmp_path):
    same = (c.Evaluator("again"), c.Evaluator("tested", split="test"), c.Evaluator("trained", split="train"))
    result = ic.train(tiny_config(evaluators=same), tmp_path, arrays=tiny_arrays)
    for record in result["history"]:
        assert record["evaluators"]["again"] == record["validation"]
        assert record["evaluators"]["trained"]["count"] == 72
    assert result["evaluators"]["tested"] == result["test"]


@pytest.mark.slow
def test_a_larger_canvas_and_image(tiny_config, tiny_arrays, tmp_path):
    large = c.Evaluator("large", canvas=c.Canvas(12, 12), image_size=(10, 10))
    result = ic.train(tiny_config(model=AVERAGE, evaluators=(large,)), tmp_path, arrays=tiny_arrays)
    assert result["evaluators"]["large"]["count"] == 21
    assert result["evaluators"]["large"]["loss"] != result["validation"]["loss"]


@pytest.mark.slow
def test_cadences_change_no_parameter(tiny_config, tiny_arrays, tmp_path):
    evaluators = (
        c.Evaluator("rare", every_epochs=2),
        c.Evaluator("often", split="test", every_steps=3),
        c.Evaluator("inside", test_views="flip", every_steps=6),
    )
    config = tiny_config(epochs=3, evaluate_every_steps=3)
    ic.train(config, tmp_path / "plain", arrays=tiny_arrays)
    ic.train(dataclasses.replace(config, evaluators=evaluators), tmp_path / "run", arrays=tiny_arrays)
    from test_loop import assert_same, final_params

    assert_same(final_params(tmp_path / "plain"), final_params(tmp_path / "run"))
    names = [sorted(record["evaluators"]) for record in records(tmp_path / "run", "epoch")]
    assert names == [["inside", "often"], ["inside", "often", "rare"], ["inside", "often", "rare"]]  # the last: all
    inside = [(r["step"], r["validation"] is not None, sorted(r["evaluators"])) for r in _evaluations(tmp_path / "run")]
    assert inside == [(3, True, ["often"]), (6, True, ["often"]), (6, False, ["inside"]), (9, True, ["often"])]


def _evaluations(workdir):
    return records(workdir, "evaluation")


@pytest.mark.slow
def test_an_evaluator_decides_which_epoch_is_best(tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(
        epochs=4,
        evaluators=(c.Evaluator("tested", split="test"),),
        best=c.Best("tested/loss"),
        early_stopping=c.EarlyStopping(patience=3),
    )
    result = ic.train(config, tmp_path, arrays=tiny_arrays)
    losses = [record["evaluators"]["tested"]["loss"] for record in result["history"]]
    assert result["best_epoch"] == losses.index(min(losses))
    assert result["test"]["loss"] == min(losses)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(evaluators=(c.Evaluator("a"), c.Evaluator("a"))),
            'evaluators[1] ("a") has the name of another evaluator',
        ),
        (dict(evaluators=(c.Evaluator("a", mean=(0.5,)),)), 'evaluators[0] ("a"): data.mean has 1 values'),
        (dict(evaluators=(c.Evaluator("a", image_size=(9, 9)),)), "image_size = 9×9 is larger than data.canvas = 8×8"),
        (
            dict(evaluators=(c.Evaluator("a", every_epochs=2),), best=c.Best("a/top1")),
            "best.metric = 'a/top1' needs a figure of every epoch",
        ),
        (dict(evaluators=(c.Evaluator("a"),), best=c.Best("b/top1")), 'best.metric names the metric "b/top1"'),
        (
            dict(evaluators=(c.Evaluator("a", canvas=c.Canvas(12, 12), image_size=(10, 10)),)),
            'the evaluator "a" has image_size = 10×10, which this model, built for 8×8, does not take',
        ),
        (
            dict(augment=(c.Shrink((6, 6), from_epoch=1),)),
            "augment: epoch 1 has image_size = 6×6, which this model, built for 8×8, does not take",
        ),
    ],
)
def test_mistakes(changes, message, tiny_config, tiny_arrays, tmp_path):
    with pytest.raises(UserError) as error:
        ic.train(tiny_config(**changes), tmp_path, arrays=tiny_arrays)
    assert message in str(error.value)
    assert not (tmp_path / "metrics.jsonl").exists(), "it is found before the first step"


def test_a_class_that_is_not_trained_is_named(shifted, tiny_config, tiny_arrays, tmp_path):
    evaluator = c.Evaluator("shifted", source=c.Arrays(str(shifted[0])))
    arrays = tiny_arrays | {"label_names": np.array(["red", "green", "violet"])}
    with pytest.raises(
        UserError, match='the evaluator "shifted": the data have the class "blue", which the model was not'
    ):
        ic.train(tiny_config(evaluators=(evaluator,)), tmp_path / "run", arrays=arrays)


def test_numbers_for_names_are_the_classes(shifted, tiny_config, tiny_arrays):
    """As for `imgcls evaluate`: where either side has no names of its own, a label means the same number."""
    config = tiny_config(evaluators=(c.Evaluator("shifted", source=c.Arrays(str(shifted[0]))),))
    dataset = data.load(config.data, arrays=tiny_arrays)
    found = evaluators.load_splits(config, dataset)["shifted"].labels
    assert np.array_equal(found, np.load(shifted[0])["y_train"])


def test_a_missing_split_is_named(shifted, tiny_config, tiny_arrays, tmp_path):
    evaluator = c.Evaluator("shifted", source=c.Arrays(str(shifted[0])), split="test")
    with pytest.raises(UserError, match='the evaluator "shifted" asks for test images, which its source does not have'):
        ic.train(tiny_config(evaluators=(evaluator,)), tmp_path / "run", arrays=tiny_arrays)
