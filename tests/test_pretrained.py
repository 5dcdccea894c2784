"""What a run says about the images that its loaded weights were made for."""

import dataclasses

import pytest

from imgcls_jax import config as c
from imgcls_jax import pretrained
from imgcls_jax.weights import CATALOGUE

# torchvision's transforms for ResNet50_Weights.IMAGENET1K_V2: Resize(232), CenterCrop(224), bilinear.
LIKE_TORCHVISION = c.Data(
    source=c.Folder("images"),
    canvas=c.Canvas(300, 300, fit="stretch"),
    eval_canvas=c.Canvas(232, 232),
    image_size=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def notes(name, **changes):
    data = dataclasses.replace(LIKE_TORCHVISION, **changes)
    return pretrained.departures(pretrained._seen(data), pretrained._published(CATALOGUE[name].preprocessing))


def test_nothing_is_said_where_images_are_those_of_the_weights():
    assert notes("torchvision/resnet50.IMAGENET1K_V2") == []
    small = dict(eval_canvas=c.Canvas(32, 32, interpolation="nearest"), image_size=(32, 32))
    assert notes("akamaster/resnet20.CIFAR10", **small) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": (200, 200)}, "image_size (200, 200) (theirs (224, 224))"),
        ({"eval_canvas": c.Canvas(256, 256)}, "canvas (256, 256) (theirs (232, 232))"),
        ({"eval_canvas": None}, "fit stretch (theirs crop)"),
        ({"eval_canvas": c.Canvas(232, 232, interpolation="bicubic")}, "interpolation bicubic (theirs bilinear)"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean (0.5, 0.5, 0.5) (theirs (0.485, 0.456, 0.406))"),
    ],
)
def test_each_difference_is_named(changes, words):
    (note,) = notes("torchvision/resnet50.IMAGENET1K_V2", **changes)
    assert words in note
