"""What a run says about the images that its loaded weights were made for, and how a run's own are read."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import checkpoint, data, pretrained
from imgcls_jax import config as c
from imgcls_jax import mesh as meshes
from imgcls_jax.run import Run
from imgcls_jax.train import train_and_evaluate
from imgcls_jax.weights import CATALOGUE, paths

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
        ({"eval_canvas": c.Canvas(232, 232, jpeg_decoding="reduced")}, "jpeg_decoding reduced (theirs full)"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean (0.5, 0.5, 0.5) (theirs (0.485, 0.456, 0.406))"),
    ],
)
def test_each_difference_is_named(changes, words):
    (note,) = notes("torchvision/resnet50.IMAGENET1K_V2", **changes)
    assert words in note


@pytest.mark.parametrize(
    "optim",
    [
        dict(optimizer=c.ScheduleFreeAdamW()),
        dict(lookahead=c.Lookahead(every=5)),
        dict(optimizer=c.Muon(), ema=c.EMA(0.9)),
        dict(swa=c.SWA(from_epoch=1)),
        dict(swa=c.SWA(from_epoch=2)),
    ],
)
def test_a_run_is_read_as_its_evaluation_took_it(optim, tiny_config, tiny_arrays, tmp_path):
    settings = dataclasses.replace(tiny_config().optim, **optim)
    config = tiny_config(optim=settings, transfer=c.Transfer(freeze=("head.*",), allow_frozen_random=True), epochs=3)
    train_and_evaluate(config, tmp_path, arrays=tiny_arrays)
    run = Run(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    with checkpoint.of_run(tmp_path) as (checkpoints, newest):
        best = checkpoints.run(newest)["best"]
        epoch = best // run.steps_per_epoch - 1
        params, stats = run.evaluation_variables(checkpoints.state(best, run.abstract_state(epoch)), epoch)
    found = pretrained.of_run(tmp_path)
    assert found.config == config
    assert found.frozen == {path for path in paths.flatten(params) if path.startswith("head.")} != set()
    for tree, expected in ((found.params, params), (found.stats, stats)):
        expected = paths.flatten(expected)
        assert tree.keys() == expected.keys()
        for path, array in tree.items():
            np.testing.assert_allclose(array, expected[path], rtol=1e-6, atol=1e-7, err_msg=path)
