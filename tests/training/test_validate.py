"""Impossible combinations: one clear sentence before any data is read."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.models.layers import BatchNorm
from imgcls_jax.training.loop import train
from imgcls_jax.training.validate import validate

SCHEDULE = c.Schedule(peak=0.1, shape=c.Constant())
DATA = dict(source=c.Arrays(), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
CNN = dict(convs=(c.Conv(4, 3),), aggregate="flatten")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(batch_size=12, mesh=c.Mesh(devices=8)),
            "batch_size = 12 cannot be shared equally by 8 devices: take 8 or 16",
        ),
        (dict(eval_batch_size=3, mesh=c.Mesh(devices=2)), "eval_batch_size = 3 cannot be shared equally by 2 devices"),
        (dict(mesh=c.Mesh(devices=9)), "mesh.devices is 9, but this machine has 8"),
        (dict(mesh=c.Mesh(devices=2, fsdp=3)), "mesh.fsdp = 3 does not divide the number of devices, 2"),
        (
            dict(bn_group=3, mesh=c.Mesh(devices=8)),
            "bn_group = 3 does not divide the number of devices, 8: take one of 1, 2, 4, 8, or leave it out",
        ),
        (dict(optim=c.Optim(c.SGD(), SCHEDULE, accumulate=3)), "cannot be split into optim.accumulate = 3 equal parts"),
        (dict(data=c.Data(**DATA | dict(image_size=(9, 8)))), "image_size = 9×8 is larger than data.canvas = 8×8"),
        (dict(data=c.Data(**DATA, eval_canvas=c.Canvas(4, 8))), "is larger than data.eval_canvas = 4×8"),
        (dict(data=c.Data(**DATA, eval_canvas=c.Canvas(8, 8, channels=1))), "data.eval_canvas has 1 channel(s)"),
        (dict(data=c.Data(**DATA | dict(mean=(0.5,)))), "data.mean has 1 values, but data.canvas has 3 channel(s)"),
        (dict(data=c.Data(**DATA | dict(std=(0.5,) * 4))), "data.std has 4 values, but data.canvas has 3 channel(s)"),
        (dict(data=c.Data(**DATA | dict(mean=(125.0,) * 3))), "must lie in [0, 1], where 0 is black and 1 is white"),
        (dict(data=c.Data(**DATA | dict(std=(64.0,) * 3))), "must lie in (0, 1]"),
        (
            dict(data=c.Data(**DATA | dict(source=c.TFDS("x", "train", "test", None)), validation_share=0.1)),
            "both name validation images",
        ),
        (
            dict(data=c.Data(**DATA | dict(source=c.TFDS("x", "train", None, "test")), test_share=0.1)),
            "both name test images",
        ),
        (
            dict(optim=c.Optim(c.SGD(), c.Schedule(peak=0.1, shape=c.Cosine()), swa=c.SWA(2))),
            "swa.from_epoch is 2, but the last epoch is 1",
        ),
        (
            dict(model=c.CNN(**CNN, head=c.Head(sigmoid=True))),
            "model.head.sigmoid gives one logit, which CrossEntropy cannot use",
        ),
        (
            dict(model=c.CNN(**CNN, head=c.Head(sigmoid=True)), loss=c.BinaryCrossEntropy(), augment=(c.Mixup(0.5),)),
            "augment[0] (Mixup) mixes labels, which a model with one sigmoid output cannot learn",
        ),
        (
            dict(test_views="five_crop"),
            "test_views = 'five_crop' would cut the same 8×8 pixels five times, because test canvases are no larger",
        ),
        (
            dict(data=c.Data(**DATA, sampling="balanced"), loss=c.Focal(class_weights="balanced")),
            'data.sampling and loss.class_weights are both "balanced", which would raise rare classes twice',
        ),
        (dict(augment=(c.Rotation(15, from_epoch=30, until_epoch=20),)), "has until_epoch=20, not after from_epoch=30"),
        (dict(augment=(c.ColorJitter(),)), "augment[0] (ColorJitter) changes nothing: brightness, contrast"),
    ],
)
def test_impossible_combination(changes, message, tiny_config, tmp_path):
    config = tiny_config(**changes)
    with pytest.raises(UserError) as error:
        train(config, tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists(), "a refused config must leave nothing behind"


def test_a_run_may_end_before_an_operation_starts(tiny_config):
    """A run cut short to try it out; the doctor's `phases_that_never_come` says it."""
    validate(tiny_config(epochs=1, augment=(c.HorizontalFlip(), c.Rotation(15, from_epoch=30))), devices=1)


def test_a_good_config_passes(tiny_config):
    validate(tiny_config(), devices=1)
    larger = c.Data(**DATA, eval_canvas=c.Canvas(10, 8), sampling="balanced")
    validate(tiny_config(data=larger, test_views="ten_crop"), devices=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batch_size=80), "batch_size = 80 is larger than the training set of 72 images"),
        (dict(early_stopping=c.EarlyStopping(patience=3)), "early_stopping needs validation images"),
        (
            dict(optim=c.Optim(c.SGD(), c.Schedule(peak=0.1, shape=c.ReduceOnPlateau()))),
            "ReduceOnPlateau needs validation images",
        ),
        (dict(test_views="flip"), "test_views needs test images"),
    ],
)
def test_settings_that_the_data_contradicts(changes, message, tiny_config, tiny_arrays, tmp_path):
    arrays = {name: value for name, value in tiny_arrays.items() if "train" in name}
    with pytest.raises(UserError) as error:
        train(tiny_config(**changes), tmp_path, arrays=arrays)
    assert message in str(error.value)


HEAD_NORM = c.CNN(convs=(c.Conv(4, 3),), aggregate="flatten", head=c.Head(batch_norm=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batch_size=1, augment=(c.Mixup(0.4),)), "Mixup mixes the images of a batch, and batch_size = 1"),
        (dict(batch_size=1, augment=(c.CutMix(1.0),)), "CutMix mixes the images of a batch"),
        (
            dict(batch_size=4, optim=c.Optim(c.SGD(), SCHEDULE, accumulate=4), augment=(c.Mixup(0.4),)),
            "batch_size = 4 in optim.accumulate = 4 parts",
        ),
        (dict(batch_size=1, model=HEAD_NORM), "BatchNorm has one value of each channel"),
        (dict(best=c.Best("top5")), '"top5", which is 100 % in every epoch where there are 3 classes'),
        (dict(batch_size=2, optim=c.Optim(c.SGD(), SCHEDULE, accumulate=2), model=HEAD_NORM), "BatchNorm has one"),
    ],
)
def test_batches_and_metrics_that_teach_nothing(changes, message, tiny_config, tiny_arrays, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        train(tiny_config(**changes), tmp_path, arrays=tiny_arrays)


def test_batchnorm_of_one_value_is_refused_as_by_torch():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.BatchNorm1d(4)(torch.ones(1, 4))
    with pytest.raises(UserError, match="one value of each channel"):
        BatchNorm(4)(jnp.ones((1, 4)))
    with pytest.raises(UserError, match="one value of each channel .* leave bn_group out"):
        nnx.view(BatchNorm(4), batch_groups=2)(jnp.ones((2, 4)))
    assert BatchNorm(4)(jnp.ones((1, 2, 1, 4))).shape == (1, 2, 1, 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "no training image has the label 0, but there are labels up to 2"),
        ([0, 2], "no training image has the label 1, but there are labels up to 2"),
        ([0, 0], 'all training images are of one class, "0"'),
        ([1, 1], 'all training images are of one class, "1"'),
    ],
)
def test_labels_with_gaps_and_one_class(labels, message, tiny_config, tmp_path):
    arrays = {"x_train": np.zeros((32, 8, 8, 3), np.uint8), "y_train": np.array(labels * 16)}
    with pytest.raises(UserError, match=re.escape(message)):
        train(tiny_config(), tmp_path, arrays=arrays)
