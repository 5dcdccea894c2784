"""What every shipped config builds, held exactly: layer shapes, counts, frozen sets, rates, phases, splits.

The expectations are typed from the coursework reports (and, for published networks, from their authors' counts).
"""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from shipped import CLASSES, SPECS

from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.data.split import hold_out
from imgcls_jax.models import network
from imgcls_jax.optim import schedules
from imgcls_jax.training.validate import validate
from imgcls_jax.weights import paths
from imgcls_jax.weights import plan as surgery

IDS = [spec.rpartition("/")[2] for spec in SPECS]


def load(name):
    return files.load(next(spec for spec in SPECS if spec.rpartition("/")[2] == name))


@functools.cache
def shapes(name):
    """Abstract parameters and statistics of a config's model."""
    config = load(name)
    model = network.of_config(config, CLASSES[name.partition(".")[0]])
    return jax.eval_shape(model.create, jax.random.key(0))


def plan(name):
    """What trains, as if the checkpoint held all that is not replaced."""
    config, (params, stats) = load(name), shapes(name)
    flat = paths.flatten(params) | paths.flatten(stats)
    loaded = {
        path: np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in flat.items()
        if not paths.matches(path, config.transfer.replace)
    }
    computed = config.model.computed_values(lambda pixels: np.zeros((1, 9, 9, 3), np.float32))
    return surgery.plan(
        config.transfer, config.model, params, stats, loaded if config.transfer.init_from else None, computed
    )


def kernels(name):
    """Shapes of all kernels, in torch's order."""
    return [row.shape for row in plan(name).rows if row.path.endswith("kernel")]


def convolutions(*sides_and_channels, image=3):
    """Kernel shapes of successive convolutions, given as (side, output channels)."""
    inputs = [image, *(channels for _, channels in sides_and_channels)]
    return [(side, side, before, after) for before, (side, after) in zip(inputs, sides_and_channels, strict=False)]


def dense(*widths):
    return list(zip(widths[:-1], widths[1:], strict=True))


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_is_possible_and_comes_back_from_its_file(spec, tmp_path):
    config = files.load(spec)
    validate(config, 1)
    (tmp_path / "config.json").write_text(json.dumps(files.document(config)))
    assert files.restore(tmp_path / "config.json") == config


def test_names_differ_so_that_no_two_runs_share_a_work_directory():
    configs = {json.dumps(files.document(config)): config.name for config in map(files.load, SPECS)}
    assert len(set(configs.values())) == len(configs)


# A variant seldom has another network.
@pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, marks=pytest.mark.slow if ":" in spec else []) for spec in SPECS],
    ids=IDS,
)
def test_rules_cover_the_model(spec):
    assert plan(spec.rpartition("/")[2]).count(10_000)[0] > 0


SIX = convolutions((3, 32), (3, 64), (3, 128), (3, 128), (3, 256), (3, 256)) + dense(4096, 1024, 512, 10)
DOGS = convolutions((3, 32), (3, 64), (3, 128))
IMAGENETTE = convolutions((7, 32), (5, 64), (3, 128)) + dense(51_200, 512, 10)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "cifar10_lenet.py": convolutions((5, 10), (5, 20)) + dense(500, 120, 84, 10),
        "cifar10_lenet.py:no_validation": convolutions((5, 10), (5, 20)) + dense(500, 120, 84, 10),
        "cifar10_lenet.py:narrow": convolutions((5, 6), (5, 16)) + dense(400, 120, 84, 10),
        "cifar10_lenet.py:wide": convolutions((5, 32), (5, 64)) + dense(1600, 120, 84, 10),
        "cifar10_cnn.py:three_convs": convolutions((3, 16), (3, 32), (3, 64)) + dense(1024, 512, 64, 10),
        "cifar10_cnn.py:plain": SIX,
        "cifar10_cnn.py:flips": SIX,
        "cifar10_cnn.py:large_batch": SIX,
        "cifar10_cnn.py:dropout": SIX,
        "cifar10_cnn.py:as_reported": SIX,
        "cifar10_cnn.py": SIX,
        "cifar10_speedrun.py": convolutions((2, 24), (3, 64), (3, 64), (3, 256), (3, 256), (3, 256), (3, 256))
        + dense(256, 10),
        "cifar100_cnn.py": convolutions((3, 32), (3, 64), (3, 128)) + dense(2048, 256, 100),
        "sketch_cnn.py:baseline": convolutions((5, 10), (5, 20), (5, 20)) + dense(320, 50, 500),
        "sketch_cnn.py": convolutions((5, 32), (3, 64), (3, 128), (3, 256), (3, 512)) + dense(512, 500),
        "cats_dogs_cnn.py": DOGS + dense(51_200, 512, 1),
        "stanford_dogs_cnn.py": DOGS + dense(51_200, 512, 120),
        "imagenette_cnn.py": IMAGENETTE,
        "imagenette_cnn.py:all": IMAGENETTE,
        "imagenette_cnn.py:narrow": convolutions((7, 8), (5, 16), (3, 32)) + dense(12_800, 512, 10),
        "imagenette_cnn.py:medium": convolutions((7, 16), (5, 32), (3, 64)) + dense(25_600, 512, 10),
    }.items(),
)
def test_layers_are_those_of_the_report(name, expected):
    assert kernels(name) == expected


@pytest.mark.parametrize(
    ("name", "trainable", "total"),
    [
        ("cats_dogs_cnn.py", 26_308_673, 26_308_673),
        ("cats_dogs_cnn.py:from_dogs", 26_308_673, 26_308_673),
        ("cats_dogs_cnn.py:first_convs", 19_905, 26_308_673),
        ("cats_dogs_cnn.py:last_convs", 92_865, 26_308_673),
        ("cifar100_wrn.py", 36_536_884, 36_536_884),
        # airbench94_muon's network has 1,972,792 parameters, of them 1,152 frozen scales, which are left out here, and
        # 288 of the frozen whitening convolution.
        ("cifar10_speedrun.py", 1_972_792 - 1_152 - 288, 1_972_792 - 1_152),
        # torchvision's ResNet-18 without its output layer has 11,176,512 parameters, of them 9,600 in BatchNorm
        # layers; the new output layer has 5,130.
        ("imagenette_r18.py", 9_600 + 5_130, 11_176_512 + 5_130),
        ("imagenette_r18.py:frozen_bn", 5_130, 11_176_512 + 5_130),
        ("imagenette_r18.py:as_run", 5_130, 11_176_512 + 5_130),
        ("cifar10_squeezenet.py:as_run", 1_235_496, 1_235_496),
        ("cifar10_resnet.py:56", 853_018, 853_018),
        # DINOv2 ViT-S/14 as published (the mask token is left out), and a linear layer on 2 × 384 features.
        ("sketch_dinov2.py", 768 * 500 + 500, 22_056_576 - 384 + 768 * 500 + 500),
    ],
)
def test_counts(name, trainable, total):
    assert plan(name).count(0) == (trainable, total)


@pytest.mark.parametrize(("variant", "batch", "first"), [("", 2000, 0.24), (":cpu", 1000, 0.17)])
def test_first_rates_of_the_speed_run(variant, batch, first):
    """airbench94_muon's, whose SGD sees gradients summed over its batch of 2,000: 0.24, 0.053 and 0.67, falling to 0 in
    200 steps; weight decay 2e-6 · 2,000 over the rate. A smaller batch has smaller sums."""
    name = f"cifar10_speedrun.py{variant}"
    config, rows = load(name), {row.path: row for row in plan(name).rows}
    optim, steps = config.optim, 50_000 // batch * config.epochs
    rate = schedules.build(optim.schedule, steps_per_epoch=50_000 // batch, epochs=config.epochs)
    assert config.batch_size == batch
    assert [rate.at(step) for step in (0, steps // 2, steps - 1)] == pytest.approx([first, first / 2, first / steps])
    for path, reference in (("whiten.bias", 0.053), ("layer1.bn1.bias", 0.053), ("head.out.kernel", 0.67)):
        scale = optim.optimizer.rest_learning_rate_scale * rows[path].learning_rate_scale
        assert first * scale == pytest.approx(batch * reference)
        decay = optim.optimizer.rest.weight_decay * rows[path].weight_decay_scale
        assert decay == pytest.approx(2e-6 * batch / reference / batch)
    assert rows["layer1.conv1.kernel"].learning_rate_scale == 1
    assert optim.optimizer.weight_decay == 0


@pytest.mark.parametrize("variant", ["", ":as_run"])
def test_resnet50_on_cifar100_freezes_111_tensors_of_torchs_161(variant):
    rows = plan(f"cifar100_r50.py{variant}").rows
    backbone = [row for row in rows if not row.path.startswith("head.")]
    frozen = [row.path for row in backbone if not row.trains(0)]
    # torchvision's network has 159 tensors before its output layer of two.
    assert (len(frozen), len(backbone) + 2) == (111, 161)
    trained = {".".join(row.path.split(".")[:2]) for row in backbone if row.trains(0)}
    assert trained == {"layer3.4", "layer3.5", "layer4.0", "layer4.1", "layer4.2"}


def test_learning_rate_of_resnet50_on_cifar100():
    config = load("cifar100_r50.py")
    rate = schedules.build(config.optim.schedule, steps_per_epoch=1, epochs=200)
    rates = np.array([rate.at(epoch) for epoch in range(200)])
    restarts = [epoch for epoch in range(1, 200) if rates[epoch] > 1.01 * rates[epoch - 1] and epoch > 5]
    assert restarts == [15, 35, 75, 155]
    assert rates[[0, 5, *restarts]] == pytest.approx([1e-4] + [1e-3] * 5)


def test_phases_of_resnet50_on_cifar100():
    config = load("cifar100_r50.py")
    assert [phase.from_epoch for phase in augment.phases(config.augment, config.epochs)] == [0, 30]
    assert {type(op).__name__ for op in config.augment if op.from_epoch == 30} == {
        "Rotation",
        "ColorJitter",
        "RandomErasing",
    }
    assert config.loss == c.CrossEntropy(label_smoothing=0.1)
    assert [phase.from_epoch for phase in augment.phases(load("cifar100_r50.py:as_run").augment, 100)] == [0]


def test_learning_rate_of_resnet18_on_imagenette():
    rate = schedules.build(load("imagenette_r18.py").optim.schedule, steps_per_epoch=1, epochs=20)
    assert [rate.at(epoch) for epoch in (0, 6, 7, 13, 14, 19)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize("name", ["cifar10_cnn.py", "cifar10_lenet.py", "cifar100_cnn.py", "cifar100_r50.py"])
def test_four_fifths_of_cifar_train(name):
    data, classes = load(name).data, CLASSES[name.partition(".")[0]]
    labels = np.repeat(np.arange(classes, dtype=np.int32), 50_000 // classes)
    kept, held = hold_out(
        labels, data.validation_share, data.split_seed, [str(i) for i in range(classes)], "validation"
    )
    assert (len(kept), len(held)) == (40_000, 10_000)


def test_batch_norm_switches_of_imagenette():
    modes = [load(f"imagenette_r18.py{variant}").transfer.batch_norm for variant in ("", ":frozen_bn", ":as_run")]
    assert [(mode.train_affine, mode.normalize_by, mode.update_running) for mode in modes] == [
        (True, "batch", True),
        (False, "running", False),
        (False, "batch", False),
    ]


def test_each_variant_of_imagenette_changes_one_thing():
    base = load("imagenette_cnn.py")
    for name, changed in (
        ("aug", {"augment"}),
        ("bn", {"model"}),
        ("dropout", {"model"}),
        ("all", {"augment", "model"}),
        ("sigmoid", {"model"}),
        ("narrow", {"model"}),
    ):
        other = load(f"imagenette_cnn.py:{name}")
        fields = {field.name for field in dataclasses.fields(base)}
        assert {field for field in fields if getattr(base, field) != getattr(other, field)} == changed | {"name"}


def test_published_imagenet_networks_see_what_they_were_trained_on():
    for config in map(files.load, SPECS):
        if (config.transfer.init_from or "").startswith(("torchvision/", "dinov2/")):
            assert (config.data.mean, config.data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), config.name
