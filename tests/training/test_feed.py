"""What reaches the step, and that evaluation counts it once."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.evaluation.metrics import Metrics
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import TrainState


def seen_nothing(places):
    """A training state that keeps the last batch's places in the split, and nothing else."""
    empty = dict.fromkeys(field.name for field in dataclasses.fields(TrainState))
    metrics = Metrics.empty()
    return TrainState(**empty | {"metrics": metrics.replace(loss=metrics.loss.replace(total=places))})


def indices(config, dataset, epoch, first=0):
    """int [steps, batch] of an epoch, from the step `first` on."""
    mesh = meshes.make(config.mesh)
    training = feed.training(dataset.train, config, mesh, resident=config.data.feed == "resident")
    start = meshes.put(seen_nothing(np.zeros(config.batch_size, np.int32)), meshes.replicated(mesh))
    training.compile(lambda seen, batch: seen_nothing(batch["index"]), start)
    return np.stack([np.asarray(seen.loss.total) for _, seen, _ in training.epoch(start, epoch, first)])


@pytest.fixture
def unbalanced(tiny_arrays):
    """72 training images, 48 of class 0, 18 of class 1 and 6 of class 2."""
    return tiny_arrays | {"y_train": np.repeat([0, 1, 2], [48, 18, 6])}


def test_balanced_sampling_is_the_same_resident_streamed_and_resumed(tiny_config, unbalanced):
    seen = {}
    for kind in ("resident", "streamed"):
        settings = dataclasses.replace(tiny_config().data, feed=kind, sampling="balanced")
        config = tiny_config(data=settings)
        dataset = data.load(settings, arrays=unbalanced)
        seen[kind] = [indices(config, dataset, epoch) for epoch in (0, 1)]
        np.testing.assert_array_equal(indices(config, dataset, 1, first=2), seen[kind][1][2:])
    np.testing.assert_array_equal(seen["resident"], seen["streamed"])
    first, second = seen["resident"]
    assert first.shape == (4, 16)
    assert not np.array_equal(first, second)
    # Of 24 images a class in an epoch's order, the 8 that the last batch leaves out may all be of one class.
    for epoch in (first, second):
        counts = np.bincount(unbalanced["y_train"][epoch.ravel()], minlength=3)
        assert counts.sum() == 64
        assert counts.max() <= 24
        assert np.bincount(epoch.ravel(), minlength=72)[66:].max() == 4, "6 images fill 24 places"


def test_the_start_tells_what_sampling_and_views_do(tiny_config, unbalanced):
    settings = dataclasses.replace(tiny_config().data, sampling="balanced")
    config = tiny_config(data=settings, test_views="flip")
    notes = Experiment(config, data.load(settings, arrays=unbalanced), meshes.make(config.mesh)).notes
    assert notes == [
        "balanced sampling: about 24 images of each class an epoch, so that an image of the rarest class (6 images) "
        "comes 4.00 times on average, and one of the most frequent (48) 0.50 times",
        "the test averages the predictions of each image's views (flip)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "loss", "sigmoid"),
    [
        ("flip", c.CrossEntropy(label_smoothing=0.1), False),
        ("ten_crop", c.CrossEntropy(), False),
        ("five_crop", c.BinaryCrossEntropy(), True),
    ],
)
@pytest.mark.parametrize("feeding", ["resident", "streamed"])
def test_views_of_the_test_are_averaged_by_hand(feeding, kind, loss, sigmoid, tiny_config, tiny_arrays):
    """27 test images in batches of 16, every view cut, predicted and averaged by NumPy, in float64."""
    settings = dataclasses.replace(tiny_config().data, image_size=(6, 5), feed=feeding)
    config = tiny_config(data=settings, test_views=kind, loss=loss)
    run = Experiment(config, data.load(settings, arrays=tiny_arrays), meshes.make(config.mesh))
    state = run.initial_state()
    variables = run.evaluation_variables(state, 0)

    crops = {"center": np.s_[:, 1:7, 2:7], "top left": np.s_[:, :6, :5], "top right": np.s_[:, :6, 3:]}
    crops |= {"bottom left": np.s_[:, 2:, :5], "bottom right": np.s_[:, 2:, 3:]}
    images, labels = tiny_arrays["x_test"], tiny_arrays["y_test"]
    used = [crops["center"]] if kind == "flip" else list(crops.values())
    canvases = [images] if kind == "five_crop" else [images, images[:, :, ::-1]]
    seen = [(canvas[crop] / 255 - 0.5) / 0.25 for canvas in canvases for crop in used]
    assert len(seen) == {"flip": 2, "five_crop": 5, "ten_crop": 10}[kind]
    models = [nnx.merge(run.model.evaluate, *variables) for _ in seen]
    logits = np.stack(
        [np.asarray(model(jnp.asarray(view, np.float32)), np.float64) for model, view in zip(models, seen, strict=True)]
    )
    odds = np.exp(logits)
    p = (odds / (1 + odds) if sigmoid else odds / odds.sum(-1, keepdims=True)).mean(axis=0)
    smoothing = 0.0 if sigmoid else loss.label_smoothing
    y = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    by_hand = -(y * np.log(p) + ((1 - y) * np.log(1 - p) if sigmoid else 0)).sum(-1)

    result = run.test(variables)
    assert result["count"] == 27
    assert result["top1"] == pytest.approx((p.argmax(-1) == labels).mean(), abs=1e-7)
    assert result["loss"] == pytest.approx(by_hand.mean(), rel=1e-5)

    # Validation in training sees the center alone.
    plain = dataclasses.replace(config, test_views=None)
    expected = Experiment(plain, run.dataset, run.mesh).validate(variables)
    assert run.validate(variables) == expected
