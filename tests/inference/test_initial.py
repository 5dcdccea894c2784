"""What a run says about the images that its loaded weights were made for, and how a run's own are read."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.inference import initial, restore, source
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record import checkpoint, documents
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.loop import train
from imgcls_jax.weights import paths, published

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
    return initial.departures(documents.preprocessing(data), initial._published(published()[name].preprocessing))


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


@pytest.mark.slow
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
    train(config, tmp_path, arrays=tiny_arrays)
    run = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    with checkpoint.of_run(tmp_path) as checkpoints:
        newest = checkpoints.latest()
        best = checkpoints.run(newest)["best"]
        epoch = best // run.steps_per_epoch - 1
        params, stats = run.evaluation_variables(checkpoints.state(best, run.abstract_state(epoch)), epoch)
    found = restore.of_run(tmp_path)
    assert found.config == config
    assert found.frozen == {path for path in paths.flatten(params) if path.startswith("head.")} != set()
    for tree, expected in ((found.params, params), (found.stats, stats)):
        expected = paths.flatten(expected)
        assert tree.keys() == expected.keys()
        for path, array in tree.items():
            np.testing.assert_allclose(array, expected[path], rtol=1e-6, atol=1e-7, err_msg=path)


def test_a_runs_outputs_are_matched_by_name(tiny_config, finished_run):
    """Renumbered classes; classes that the run does not know; a trained head that `replace` would drop."""
    workdir, *_ = finished_run
    config = tiny_config(transfer=c.Transfer(init_from=str(workdir)))
    trees = source.shapes(config, ("red", "green", "blue"))
    same, said = initial.load(config, *trees, ("red", "green", "blue"))
    assert said == []
    moved, said = initial.load(config, *trees, ("blue", "red", "green"))
    assert "by name" in said[0]
    changed = {path for path, array in moved.items() if not np.array_equal(array, same[path])}
    assert changed == {"head.out.kernel", "head.out.bias"}
    for path in changed:
        np.testing.assert_array_equal(moved[path], np.asarray(same[path])[..., [2, 0, 1]])
    with pytest.raises(UserError, match='this one has "yellow" among its 3 classes'):
        initial.load(config, *trees, ("red", "green", "yellow"))
    config = tiny_config(transfer=c.Transfer(init_from=str(workdir), replace=("head.*",)))
    assert initial.load(config, *trees, ("red", "green", "yellow"))[1] == []
    (note,) = initial.load(config, *trees, ("red", "green", "blue"))[1]
    assert "its output layer is not taken over" in note
