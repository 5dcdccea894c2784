"""Classifiers made from published weights, by their name or with a config."""

import dataclasses
import shutil

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference import Classifier
from imgcls_jax.weights import paths


@pytest.fixture
def published(real_data, monkeypatch, tmp_path):
    """A cache that holds the real weights of CIFAR-10's ResNet-20, and its test images."""
    from imgcls_jax import download

    for folder in (tmp_path, download.cache_folder(tmp_path)):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path))
    target = download.cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(real_data / "weights" / "resnet20-12fca82f.th", target)
    return "akamaster/resnet20.CIFAR10"


@pytest.mark.slow
def test_published_weights_by_their_name(published, real_data):
    """The first 500 test images of CIFAR-10: three standard deviations around the published 91.73 %."""
    import importlib.util

    path = real_data / "data" / "unpack.py"
    spec = importlib.util.spec_from_file_location("unpack", path)
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    images = unpack.pixels("cifar10_test")[:500]
    labels = np.load(path.with_name("labels.npz"))["cifar10_test"][:500]

    classifier = Classifier.load(published)
    assert classifier.class_names[:3] == ("airplane", "automobile", "bird")
    assert (classifier.labels(images) == labels).mean() == pytest.approx(0.9173, abs=0.037)
    assert classifier.features(images[:2]).shape == (2, 64)

    config = dataclasses.replace(
        classifier.config, data=dataclasses.replace(classifier.config.data, source=c.Arrays()), batch_size=100
    )
    result = classifier.evaluate(
        c.Arrays(), arrays={"x_train": images[:20], "y_train": np.arange(20) % 10, "x_test": images, "y_test": labels}
    )
    assert result["test"]["count"] == 500
    assert result["test"]["top1"] == pytest.approx((classifier.labels(images) == labels).mean())
    assert config.transfer.init_from == published


@pytest.mark.slow
def test_published_weights_with_a_config(published, real_data, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "images.npz",
        x_train=rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        y_train=np.arange(40) % 10,
        label_names=np.array([f"class {i}" for i in range(10)]),
    )
    own = Classifier.load(published).config
    config = dataclasses.replace(
        own, data=dataclasses.replace(own.data, source=c.Arrays(str(tmp_path / "images.npz")), std=(0.5, 0.5, 0.5))
    )
    for source in (published, real_data / "weights" / "resnet20-12fca82f.th"):
        classifier = Classifier.load(source, config)
        assert classifier.class_names[9] == "class 9"
        assert bool(classifier.notes) == (source == published)
    assert "std (0.5, 0.5, 0.5)" in Classifier.load(published, config).notes[0]


def test_class_names_of_imagenet():
    from imgcls_jax.inference import source

    names = source._class_names(source.weights.published()["torchvision/resnet50.IMAGENET1K_V2"])
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


@pytest.mark.slow
def test_weights_without_an_output_layer_have_features_alone(tmp_path, monkeypatch):
    from imgcls_jax.inference import initial, source

    entry = source.weights.published()["dinov2/vits14"]
    config = source.published_config(entry)
    settings = dataclasses.replace(config.data, canvas=c.Canvas(28, 28), image_size=(28, 28))
    small = dataclasses.replace(config, data=settings)
    monkeypatch.setattr(source, "published_config", lambda entry: small)

    def load(config, params, stats):
        flat = paths.flatten(params)
        return {path: np.ones(x.shape, np.float32) for path, x in flat.items() if not path.startswith("head.")}, []

    monkeypatch.setattr(initial, "load", load)
    classifier = Classifier.load(entry.name)
    assert classifier.class_names == ()
    assert classifier.features(np.zeros((28, 28, 3), np.uint8)).shape == (384,)
    with pytest.raises(UserError, match="dinov2/vits14 has no output layer, so there is no predict"):
        classifier.predict(np.zeros((28, 28, 3), np.uint8))


# ---- the command
