"""Explanations of a trained network: what is blanked, neighbors, mistakes."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference import Classifier
from imgcls_jax.report import explained
from imgcls_jax.training.loop import train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(Classifier trained on 1,000 digits for a few epochs, 200 other digits)."""
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    images = np.round(found.images * 255 / 16).astype(np.uint8)[..., None]
    labels = found.target.astype(np.int64)
    np.savez(folder / "digits.npz", x_train=images[:1000], y_train=labels[:1000], x_test=images[1000:1200],
             y_test=labels[1000:1200])  # fmt: skip
    config = c.Config(
        name="digits",
        data=c.Data(c.Arrays(str(folder / "digits.npz")), c.Canvas(8, 8, channels=1), (8, 8), (0.3,), (0.37,)),
        augment=(),
        model=c.CNN(
            convs=(c.Conv(32, 3, padding=1, norm="batch"), c.Conv(64, 3, padding=1, norm="batch", pool=2)),
            aggregate="flatten",
            head=c.Head(),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.AdamW(), schedule=c.Schedule(peak=3e-3, shape=c.Constant())),
        batch_size=50,
        epochs=4,
        precision="fp32",
        seed=0,
        mesh=c.Mesh(devices=1),
        logging=c.Logging(tensorboard=False, predictions=False),
    )
    train(config, folder / "run")
    return Classifier.load(folder / "run"), images[1000:1200]


@pytest.mark.slow
def test_blanking_the_hottest_fifth_costs_more_than_the_coldest(digits):
    """Blanked by hand, and classified anew, so that neither the map nor its drops are taken on trust."""
    classifier, images = digits
    found = classifier.explain(images)
    rows, labels = np.arange(len(images)), np.array([one.label for one in found])
    before = classifier.logits(images)
    np.testing.assert_array_equal(labels, before.argmax(-1))
    drops = {}
    for name, sign in (("hot", -1), ("cold", 1)):
        order = np.stack([np.argsort(sign * one.heat.ravel(), kind="stable") for one in found])[:, :13]  # of 64
        blanked = images.reshape(len(images), -1).copy()
        np.put_along_axis(blanked, order, np.uint8(round(0.3 * 255)), 1)
        after = classifier.logits(blanked.reshape(images.shape))
        drops[name] = (before - after)[rows, labels]
    assert drops["hot"].mean() > drops["cold"].mean() + 1
    # The mean color is no whole number of 255, and places of equal heat may be taken in another order.
    assert np.mean([one.hot_drop for one in found]) == pytest.approx(drops["hot"].mean(), abs=0.3)


def test_neighbors_are_the_training_images_of_the_nearest_features(digits):
    classifier, images = digits
    found = classifier.explain(images[:6], neighbors=3)
    with np.load(classifier.config.data.source.path) as arrays:
        train_images, train_labels = arrays["x_train"], arrays["y_train"]
    features = [classifier.features(x).astype(np.float64) for x in (images[:6], train_images)]
    ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in features)
    nearest = np.argsort(-(ours @ theirs.T), axis=1)[:, :3]
    for one, rows in zip(found, nearest, strict=True):
        assert [n.class_name for n in one.neighbors] == [str(train_labels[row]) for row in rows]
        np.testing.assert_array_equal(one.neighbors[0].image, train_images[rows[0]])
    assert found[0].neighbors[0].similarity == pytest.approx((ours @ theirs.T)[0].max(), abs=1e-5)


def test_one_image_has_one_explanation_of_the_class_that_is_asked_for(digits):
    classifier, images = digits
    explanation = classifier.explain(images[0], class_name="7")
    assert (explanation.label, explanation.class_name) == (7, "7")
    assert explanation.probability == pytest.approx(classifier.probabilities(images[0])[7], abs=1e-6)
    np.testing.assert_array_equal(explanation.image, images[0])


def test_mistakes_are_said(digits):
    classifier, images = digits
    with pytest.raises(UserError, match="there is no class 'seven': the classes are 0, 1, 2"):
        classifier.explain(images[0], class_name="seven")
    with pytest.raises(UserError, match="no feature map 'layer4': this network has convs.0, convs.1"):
        classifier.explain(images[0], stage="layer4")
    with pytest.raises(UserError, match="image 1 cannot be read"):
        classifier.explain([images[0], b"no image"])


def test_the_sheet_shows_image_map_and_neighbors(digits, tmp_path):
    classifier, images = digits
    found = classifier.explain(images[:2], neighbors=2)
    explained.write(found, tmp_path / "sheet.png")
    plain = explained.sheet([dataclasses.replace(one, neighbors=()) for one in found])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == plain.height
        assert sheet.width > plain.width
    drawn = np.asarray(explained.overlay(found[0].image, found[0].heat), np.float64).sum(-1)
    hottest, coldest = found[0].heat.argmax(), found[0].heat.argmin()
    assert drawn.ravel()[hottest] > drawn.ravel()[coldest]
