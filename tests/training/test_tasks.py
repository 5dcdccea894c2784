"""Several labels per image, and numbers, through the one training loop."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk
from sklearn.datasets import load_digits

from imgcls_jax import config as c
from imgcls_jax.cli import predict
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions, tasks
from imgcls_jax.export import standalone
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.training.loop import train

LABELS = ("even", "above four", "loop")
PARTS = {"train": slice(0, 600), "validation": slice(600, 800), "test": slice(800, 1000)}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return np.rint(found.images[:1000] * 255 / 16).astype(np.uint8), found.target[:1000]


def labels_of(target: np.ndarray) -> np.ndarray:
    return np.stack([target % 2 == 0, target > 4, np.isin(target, (0, 6, 8, 9))], 1).astype(np.uint8)


def arrays_of(images: np.ndarray, labels: np.ndarray, names) -> dict[str, np.ndarray]:
    parts = {f"x_{name}": images[part] for name, part in PARTS.items()}
    return parts | {f"y_{name}": labels[part] for name, part in PARTS.items()} | {"label_names": np.array(names)}


@pytest.fixture
def config(tiny_config):
    def make(**changes) -> c.Config:
        return dataclasses.replace(
            tiny_config(
                data=c.Data(
                    source=c.Arrays(), canvas=c.Canvas(8, 8, channels=1), image_size=(8, 8), mean=(0.3,), std=(0.37,)
                ),
                augment=(),
                model=c.CNN(
                    convs=(c.Conv(16, 3, padding=1, norm="batch", pool=2),),
                    aggregate="flatten",
                    head=c.Head(hidden=(c.Dense(32),)),
                ),
                optim=c.Optim(optimizer=c.AdamW(), schedule=c.Schedule(peak=0.01, shape=c.Cosine())),
                batch_size=50,
                epochs=4,
                logging=c.Logging(tensorboard=False),
            ),
            **changes,
        )

    return make


def labeled(config, **changes) -> c.Config:
    return config(**{"loss": c.MultiLabel(), "best": c.Best("map"), **changes})


@pytest.mark.slow
def test_several_labels_are_learned_tested_and_predicted(config, digits, tmp_path, capsys):
    images, target = digits
    arrays = arrays_of(images, labels_of(target), LABELS)
    workdir = tmp_path / "run"
    result = train(labeled(config, augment=(c.CutMix(alpha=1.0, p=0.2),)), workdir, arrays=arrays)
    assert "top1" not in result["test"] and result["test"]["map"] > 0.9
    kept = predictions.load(workdir / "predictions_test.npz")
    positive = arrays["y_test"].astype(bool)
    np.testing.assert_array_equal(kept.labels, arrays["y_test"])
    assert result["test"]["map"] == pytest.approx(sk.average_precision_score(positive, kept.logits), abs=1e-6)
    tuned = json.loads((workdir / "thresholds.json").read_text())["thresholds"]
    named = tasks.sigmoid(kept.logits) >= tuned
    assert result["test"]["f1_macro_tuned"] == pytest.approx(sk.f1_score(positive, named, average="macro"))
    assert (workdir / "per_label.csv").read_text().count("\n") == 4

    classifier = Classifier.load(workdir)
    assert classifier.thresholds == tuple(tuned)
    np.testing.assert_array_equal(classifier.labels(list(arrays["x_test"][:20])), named[:20])
    one = classifier.predict(arrays["x_test"][0], all_probabilities=True)
    assert {choice.label for choice in one.labels} == set(np.flatnonzero(named[0]).tolist())
    assert classifier.evaluate(c.Arrays(), arrays=arrays)["test"] == pytest.approx(result["test"], abs=1e-6)

    for name, image in (("one", arrays["x_test"][0]), ("two", arrays["x_test"][1])):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    capsys.readouterr()
    predict.main(["--workdir", str(workdir), str(tmp_path / "one.png"), "--csv", str(tmp_path / "p.csv")])
    assert "|".join(choice.class_name for choice in one.labels) in (tmp_path / "p.csv").read_text()
    with pytest.raises(UserError, match="--sets is for one class per image"):
        predict.main(["--workdir", str(workdir), str(tmp_path), "--sets", "0.9"])

    pytest.importorskip("onnxruntime")
    classifier.export(tmp_path / "model.onnx")
    probabilities, logits = standalone.load(tmp_path / "model.onnx")(arrays["x_test"][..., None])
    np.testing.assert_allclose(logits, kept.logits, atol=1e-4)
    np.testing.assert_allclose(probabilities, tasks.sigmoid(kept.logits), atol=1e-5)
    assert standalone.document(tmp_path / "model.onnx")["model_card"]["thresholds"] == tuned
    with pytest.raises(UserError, match="predicts several labels per image, which a temperature is not for"):
        classifier.export(tmp_path / "model.onnx", temperature=2.0)
    exported = tmp_path / "model.safetensors"
    classifier.export(exported)
    again = Classifier.load(exported)
    assert again.thresholds == classifier.thresholds
    np.testing.assert_allclose(again.probabilities(arrays["x_test"][0]), one.probabilities, atol=1e-5)


@pytest.mark.slow
def test_numbers_are_learned_tested_and_predicted(config, digits, tmp_path, capsys):
    images, target = digits
    values = np.stack([images.mean((1, 2)) / 25.5, target], 1).astype(np.float32)
    arrays = arrays_of(images, values, ("brightness", "digit"))
    workdir = tmp_path / "run"
    changes = {"loss": c.Huber(), "best": c.Best("mae"), "augment": (c.Mixup(alpha=0.2, p=0.2),), "epochs": 6}
    result = train(config(**changes, test_views="flip_shift"), workdir, arrays=arrays)
    kept = predictions.load(workdir / "predictions_test.npz")
    for name, function in (
        ("mae", sk.mean_absolute_error),
        ("rmse", sk.root_mean_squared_error),
        ("r2", sk.r2_score),
    ):
        assert result["test"][name] == pytest.approx(function(arrays["y_test"], kept.logits), rel=1e-4)
    history = result["history"]
    assert history[-1]["validation"]["mae"] < 0.6 * history[0]["validation"]["mae"] or result["validation"]["r2"] > 0.5
    assert result["best_epoch"] == int(np.argmin([epoch["validation"]["mae"] for epoch in history]))
    assert (workdir / "predicted.png").is_file()
    assert (workdir / "per_number.csv").read_text().count("\n") == 3

    classifier = Classifier.load(workdir)
    np.testing.assert_allclose(classifier.logits(list(arrays["x_test"][:9])), kept.logits[:9], atol=1e-4)
    with pytest.raises(UserError, match="have no class and no probability"):
        classifier.predict(arrays["x_test"][0])
    with pytest.raises(UserError, match="exported files hold probabilities"):
        classifier.export(tmp_path / "model.safetensors")
    Image.fromarray(arrays["x_test"][0]).save(tmp_path / "one.png")
    capsys.readouterr()
    predict.main(["--workdir", str(workdir), str(tmp_path / "one.png")])
    assert capsys.readouterr().out.startswith("brightness ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"best": c.Best("top1")},
            'best.metric names the metric "top1", which no evaluation computes: take one of loss',
        ),
        ({"metrics": (c.MacroF1(),)}, "MacroF1 is for one class per image"),
        ({"model": c.CNN(convs=(c.Conv(4, 3),), aggregate="flatten", head=c.Head(sigmoid=True))}, "set it to False"),
        ({"loss": c.MSE(), "best": c.Best("mae"), "augment": (c.CutMix(alpha=1.0),)}, "CutMix shares labels by area"),
        (
            {"loss": c.MSE(), "best": c.Best("mae")},
            "the data have several labels per image, but MSE is a loss for numbers",
        ),
        ({"loss": c.CrossEntropy(), "best": c.Best("top1")}, "but CrossEntropy is a loss for one class per image"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(config, digits, tmp_path, changes, message):
    images, target = digits
    with pytest.raises(UserError, match=message):
        train(labeled(config, **changes), tmp_path / "run", arrays=arrays_of(images, labels_of(target), LABELS))


def test_balanced_sampling_is_for_classes(config, digits, tmp_path):
    images, target = digits
    wrong = labeled(config)
    wrong = dataclasses.replace(wrong, data=dataclasses.replace(wrong.data, sampling="balanced"))
    with pytest.raises(UserError, match='data.sampling = "balanced" draws equally many images of each class'):
        train(wrong, tmp_path / "run", arrays=arrays_of(images, labels_of(target), LABELS))


def test_a_label_of_no_training_image_is_refused(config, digits, tmp_path):
    images, target = digits
    arrays = arrays_of(images, labels_of(target), LABELS)
    arrays["y_train"] = arrays["y_train"] * np.array([1, 1, 0], np.uint8)
    with pytest.raises(UserError, match='no training image has the label "loop"'):
        train(labeled(config), tmp_path / "run", arrays=arrays)
