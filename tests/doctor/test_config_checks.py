"""Checks of the settings, each of settings that are really wrong, and of the same settings made right."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.doctor import config_checks, examination
from imgcls_jax.doctor.findings import CHECKS, Subject, examine
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.loop import train

CONFIG_CHECKS = [check for check in CHECKS if check.run.__module__ == config_checks.__name__]


@pytest.fixture
def found(tiny_config, tiny_arrays):
    """A function of changes of a tiny config that gives the findings by name of the check."""
    settings = tiny_config().data

    def found(arrays=tiny_arrays, quick=True, canvas=8, **changes):
        size = (canvas, canvas)
        own = c.Data(c.Arrays(), c.Canvas(canvas, canvas), size, settings.mean, settings.std)
        config = tiny_config(**{"data": own} | changes)
        dataset = data.load(config.data, arrays=arrays)
        subject = Subject(config.data, config, dataset, meshes.make(config.mesh), quick=quick)
        result = {}
        for finding in examine(subject, CONFIG_CHECKS)[0]:
            result.setdefault(finding.check, []).append(finding)
        return result

    return found


def schedule(shape, **settings):
    return c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.1, shape=shape, **settings))


def test_a_sound_config_has_no_finding(found):
    assert found(quick=False) == {}


class Never(c.Augmentation):
    """A user's own operation, whose factor is one."""

    factor: float = 1.0

    def apply(self, key, image, batch):
        return image * self.factor


def test_an_operation_without_effect(found):
    findings = found(augment=(c.HorizontalFlip(), Never(), Never(0.5)), quick=False)
    (finding,) = findings["augmentation_without_effect"]
    assert finding.what == "augment[1] (Never) changes nothing"
    assert "factor=1.0" in finding.fix


@pytest.fixture(scope="module")
def arrows():
    """Gray arrows that point left and right, at other places and brightness each: 40 images of 24×24 pixels."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for i in range(40):
        image = rng.integers(0, 30, (24, 24, 3))
        top, left = rng.integers(4, 7), rng.integers(3, 5)
        for row in range(7):
            image[top + row, left + abs(3 - row) * 2 : left + 14] = rng.integers(150, 255)
        images.append(image[:, ::-1] if i % 2 else image)
        labels.append(i % 2)
    images, labels = np.array(images, np.uint8), np.array(labels)
    names = np.array(["left", "right"])
    return {"x_train": images, "y_train": labels, "label_names": names}


def test_a_flip_that_changes_the_label(found, arrows):
    findings = found(arrows, augment=(c.HorizontalFlip(),), quick=False, canvas=24)
    left, right = findings["augmentation_against_labels"]
    assert 'images of the class "left"' in left.what
    assert 'then often like "right"' in left.evidence
    (names,) = findings["mirrored_names"]
    assert names.evidence == "left and right"
    # Upside down such an arrow still points where it did.
    assert found(arrows, augment=(c.VerticalFlip(),), quick=False, canvas=24) == {}


TRAINING = dict(epochs=4)  # of 72 images in batches of 16: 4 steps an epoch


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [
        ("augment[0] (HorizontalFlip).from_epoch", dict(max_steps=8, augment=(c.HorizontalFlip(from_epoch=2),)), 9),
        ("optim.swa.from_epoch", dict(max_steps=8, optim=dataclasses.replace(schedule(c.Constant()), swa=c.SWA(2))), 9),
        ("transfer.unfreeze head.*", dict(max_steps=8, transfer=c.Transfer(unfreeze=(c.Unfreeze("head.*", 2),))), 9),
        ("optim.schedule.shape.at", dict(optim=schedule(c.MultiStep((2,), 0.1), warmup_epochs=2)), None),
        ("optim.schedule.shape.every", dict(optim=schedule(c.Step(4, 0.1))), None),
        ("optim.schedule.shape.patience", dict(optim=schedule(c.ReduceOnPlateau(patience=3))), None),
        ("early_stopping.patience", dict(early_stopping=c.EarlyStopping(4)), None),
        ("save_every_steps", dict(save_every_steps=17), None),
        ("evaluate_every_steps", dict(evaluate_every_steps=17), None),
        ("log_every_steps", dict(log_every_steps=17), None),
    ],
)
def test_phases_that_never_come(found, setting, wrong, right):
    (finding,) = found(**TRAINING | wrong)["phases_that_never_come"]
    assert finding.what.startswith(setting)
    later = dict(max_steps=right) if right else dict(epochs=5)
    assert "phases_that_never_come" not in found(**TRAINING | wrong | later)


@pytest.mark.parametrize(
    ("shape", "epochs", "fixes"),
    [
        (c.CosineRestarts(2, multiply=2), 5, "--config.epochs=2 or --config.epochs=6"),
        (c.CosineRestarts(3), 5, "--config.epochs=3 or --config.epochs=6"),
        (c.Cosine(epochs=8), 5, "--config.epochs=8"),
        (c.Cosine(epochs=3), 5, "--config.epochs=3"),
    ],
)
def test_cycles_that_are_cut_off(found, shape, epochs, fixes):
    (finding,) = found(epochs=epochs, optim=schedule(shape))["cycle_cut_off"]
    assert finding.fix == fixes
    for fix in fixes.split(" or "):
        assert "cycle_cut_off" not in found(epochs=int(fix.split("=")[1]), optim=schedule(shape))


def test_warmup(found):
    assert "long_warmup" in found(epochs=4, optim=schedule(c.Cosine(), warmup_epochs=3))
    assert "long_warmup" in found(epochs=9, max_steps=8, optim=schedule(c.Cosine(), warmup_epochs=2))
    (shortened,) = found(epochs=2, quick=False, optim=schedule(c.Cosine(), warmup_epochs=5))["long_warmup"]
    assert "it is shortened" in shortened.evidence
    assert "long_warmup" not in found(epochs=4, optim=schedule(c.Cosine(), warmup_epochs=2))


@pytest.mark.parametrize(("recommended", "wrong"), [(0.05, False), (0.01, True), (2.0, True), (0.02, False)])
def test_learning_rate_against_the_range_test(tiny_config, recommended, wrong):
    subject = Subject(tiny_config().data, tiny_config(), recommended_rate=recommended)
    assert bool(list(config_checks.learning_rate(subject))) == wrong  # the peak is 0.05


@pytest.mark.parametrize(
    ("batch", "accumulate", "bn_group", "wrong"),
    [(16, 1, None, ""), (16, 4, None, "4 images"), (4, 1, None, "4 images"), (16, 1, 2, ""), (16, 1, 1, "4 images")],
)
def test_batch_norm_over_few_images(tiny_config, tiny_arrays, batch, accumulate, bn_group, wrong):
    optim = dataclasses.replace(tiny_config().optim, accumulate=accumulate)
    config = tiny_config(batch_size=batch, optim=optim, bn_group=bn_group, mesh=c.Mesh(devices=4))
    dataset = data.load(config.data, arrays=tiny_arrays)
    mesh = meshes.make(config.mesh)
    plan = Experiment(config, dataset, mesh).plan
    found = list(config_checks.small_batch_norm(Subject(config.data, config, mesh=mesh, plan=plan)))
    assert [finding.what for finding in found] == ([f"BatchNorm normalizes over {wrong} at a time"] if wrong else [])
    assert all(("bn_group = 1 of 4 devices" in finding.evidence) == (bn_group == 1) for finding in found)


def test_frozen_random_parameters(tiny_config, tiny_arrays):
    for allowed, wrong in ((c.Transfer(freeze=("convs.*",), allow_frozen_random=True), 1), (c.Transfer(), 0)):
        config = tiny_config(transfer=allowed)
        dataset = data.load(config.data, arrays=tiny_arrays)
        plan = Experiment(config, dataset, meshes.make(config.mesh)).plan
        findings = list(config_checks.frozen_random(Subject(config.data, config, plan=plan)))
        assert len(findings) == wrong
    assert all(path.startswith("convs.") for finding in findings for path in finding.items)


def test_precision_of_this_machine_and_of_others(found):
    assert "precision" in found(precision="bf16")
    assert config_checks.lacks("gpu", "7.5", "bf16")
    assert config_checks.lacks("gpu", "6.1", "fp16")
    assert config_checks.lacks("tpu", None, "fp16")
    assert not config_checks.lacks("gpu", "8.0", "bf16")
    assert not config_checks.lacks("gpu", "7.5", "fp16")
    assert not config_checks.lacks("tpu", None, "bf16")


def test_onednn_computes_in_bfloat16(found, monkeypatch):
    onednn = dict(cpu_convolutions="onednn", mesh=c.Mesh(devices=1))
    for reason, fix in (("no kernels", "fp32"), (None, "fp32, or --config.cpu_convolutions=onednn")):
        monkeypatch.setattr(config_checks.onednn, "missing", lambda precision, devices, reason=reason: reason)
        (finding,) = found(precision="bf16", mesh=c.Mesh(devices=1))["precision"]
        assert finding.fix == f"--config.precision={fix}"
        assert ("precision" in found(precision="bf16", **onednn)) == bool(reason)


def test_a_metric_that_cannot_move(found, tiny_config, tiny_arrays, tmp_path):
    (finding,) = found(best=c.Best("top5"))["metric_that_cannot_move"]
    assert finding.level == "error"
    assert "metric_that_cannot_move" in found(optim=schedule(c.ReduceOnPlateau(metric="top5")))
    assert "metric_that_cannot_move" in found(best=c.Best("top3"), metrics=(c.TopK(3),))
    assert "metric_that_cannot_move" not in found(best=c.Best("top2"), metrics=(c.TopK(2),))
    with pytest.raises(UserError, match="which is 100 %"):
        train(tiny_config(best=c.Best("top5")), tmp_path / "run", arrays=tiny_arrays)


def test_what_is_refused_is_a_finding():
    finding = examination.refusal("settings", UserError("a is 1, b is 2: lower a"))
    assert (finding.level, finding.check, finding.what, finding.fix) == (
        "error",
        "settings",
        "a is 1, b is 2",
        "lower a",
    )
