"""The features of every family of networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax import models
from imgcls_jax.errors import UserError
from imgcls_jax.inference import Classifier
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.record import documents
from imgcls_jax.weights import paths


def trained_model(config, params, stats, class_names=("a", "b", "c")):
    return TrainedModel(config, class_names, params, stats, documents.model_card(config, class_names, None))


FAMILIES = {
    "cnn": c.CNN(convs=(c.Conv(4, 3, pool=2),), aggregate="average", head=c.Head()),
    "resnet": c.ResNet("resnet18", c.Head()),
    "cifar_resnet": c.CifarResNet(20, c.Head()),
    "wide_resnet": c.WideResNet(10, 1, c.Head()),
    "squeezenet": c.SqueezeNet("1_1"),
    "airbench": c.Airbench(),
    "efficientnet_lite": c.EfficientNetLite("lite0", c.Head()),
    "dinov2": c.DINOv2("small", c.Head()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in ("cnn", "cifar_resnet", "airbench") else pytest.mark.deep)
        for name in FAMILIES
    ],
)
def test_features_are_the_input_of_every_familys_head(family, tiny_config, monkeypatch):
    side = 28 if family == "dinov2" else 32
    settings = dataclasses.replace(tiny_config().data, canvas=c.Canvas(side, side), image_size=(side, side))
    config = tiny_config(model=FAMILIES[family], data=settings, batch_size=2)
    model = models.network.of_config(config, 3)
    params, stats = model.create(jax.random.key(0))
    arrays = [paths.flatten(jax.tree.map(np.asarray, tree)) for tree in (params, stats)]
    classifier = Classifier(trained_model(config, *arrays))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    seen = []
    network = classifier.network
    head = type(network.head)
    call = head.__call__
    monkeypatch.setattr(head, "__call__", lambda self, x, *rest: (seen.append(x), call(self, x, *rest))[1])
    network(jnp.asarray(classifier.preprocessing(image)[None]))
    expected = np.asarray(seen[0], np.float32)
    expected = expected.mean((1, 2)) if expected.ndim == 4 else expected
    np.testing.assert_allclose(classifier.features(image), expected[0], rtol=1e-4, atol=1e-4)


def test_a_network_without_stages_says_so(tiny_config):
    class Averages(c.Model):
        def build(self, *, num_classes, channels, image_size, dtype, rngs):
            class Net(nnx.Module):
                def __init__(self):
                    self.out = nnx.Linear(channels, num_classes, rngs=rngs)

                def __call__(self, x, *, rngs=None):
                    return self.out(x.mean((1, 2)))

            return Net()

    config = tiny_config(model=Averages())
    made = models.network.of_config(config, 3).create(jax.random.key(0))
    params, stats = (paths.flatten(jax.tree.map(np.asarray, tree)) for tree in made)
    classifier = Classifier(trained_model(config, params, stats))
    assert classifier.logits(np.zeros((8, 8, 3), np.uint8)).shape == (3,)
    with pytest.raises(UserError, match="features need the method stages.x. of Net, which gives .*; it gives nothing"):
        classifier.features(np.zeros((8, 8, 3), np.uint8))
