"""The classifier: of a run, of published weights, and of images in every form."""

import csv
import dataclasses
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax import models
from imgcls_jax.cli import predict as command
from imgcls_jax.config import io as files
from imgcls_jax.data.image_formats import KNOWN
from imgcls_jax.errors import UserError
from imgcls_jax.inference import Classifier, Prediction, Unreadable, evaluate
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.record import documents
from imgcls_jax.training.loop import train
from imgcls_jax.weights import paths


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config, tiny_arrays):
    """(Work directory, result) of a run on four devices, whose data lie in a file."""
    folder = tmp_path_factory.mktemp("classifier")
    np.savez(folder / "images.npz", **tiny_arrays, label_names=np.array(["red", "green", "blue"]))
    config = tiny_config(
        data=dataclasses.replace(tiny_config().data, source=c.Arrays(str(folder / "images.npz"))),
        augment=(),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(label_smoothing=0.1),
        epochs=4,
        mesh=c.Mesh(devices=4),
        logging=c.Logging(tensorboard=False),
    )
    return folder / "run", train(config, folder / "run")


@pytest.fixture(scope="module")
def classifier(run):
    return Classifier.load(run[0])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """One picture as a file, and the same as PIL image, array, bytes and str."""
    pixels = np.random.default_rng(1).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photographs") / "one.png"
    Image.fromarray(pixels).save(path)
    return {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "pillow": Image.open(path),
        "array": pixels,
    }


def trained_model(config, params, stats, class_names=("a", "b", "c")):
    return TrainedModel(config, class_names, params, stats, documents.model_card(config, class_names, None))


# ---- what it is


def test_it_comes_from_the_record_alone(run, tiny_arrays, tmp_path):
    """Without the data, and from another folder."""
    shutil.copytree(run[0], tmp_path / "copy", ignore=shutil.ignore_patterns("split*"))
    saved = tmp_path / "copy" / "config.json"
    saved.write_text(saved.read_text().replace("images.npz", "gone.npz"))
    classifier = Classifier.load(str(tmp_path / "copy"))
    assert classifier.class_names == ("red", "green", "blue")
    assert classifier.preprocessing.canvas == c.Canvas(8, 8)
    assert classifier.preprocessing.mean == (0.5, 0.5, 0.5)
    assert classifier.card["class_names"] == ["red", "green", "blue"]
    np.testing.assert_array_equal(
        classifier.labels(tiny_arrays["x_test"]), Classifier.load(run[0]).labels(tiny_arrays["x_test"])
    )
    with pytest.raises(UserError, match="there is no file .*gone.npz"):
        classifier.evaluate()


def test_the_preprocessing_and_the_network_are_its_parts(classifier, tiny_arrays):
    x = np.stack([classifier.preprocessing(image) for image in tiny_arrays["x_test"]])
    np.testing.assert_allclose(x, (tiny_arrays["x_test"] / np.float32(255) - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        classifier.network(jnp.asarray(x)), classifier.logits(tiny_arrays["x_test"]), rtol=1e-5, atol=1e-5
    )
    assert classifier.params.keys() == {
        f"{layer}.{leaf}"
        for layer, leaves in {"convs.0.conv": "kb", "convs.0.bn": "sb", "head.out": "kb"}.items()
        for leaf in ({"k": "kernel", "b": "bias", "s": "scale"}[letter] for letter in leaves)
    }


# ---- what it does


def test_evaluation_repeats_training_exactly(run, classifier):
    workdir, result = run
    evaluated = classifier.evaluate()
    for split in ("validation", "test"):
        assert evaluated[split] == result[split]
    assert evaluated["views"] == {"validation": "center", "test": "center"}
    assert evaluate(workdir) == evaluated
    trained = files.restore(workdir / "config.json")
    again = dataclasses.replace(trained, transfer=c.Transfer(init_from=str(workdir)))
    assert evaluate(again)["test"] == evaluated["test"]


def test_logits_are_those_of_the_evaluation(run, classifier, tiny_arrays):
    """Loss and accuracy by hand, over 27 images: a batch of 16, and a padded one."""
    logits, labels = classifier.logits(tiny_arrays["x_test"]).astype(np.float64), tiny_arrays["y_test"]
    assert logits.shape == (27, 3)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    soft = np.eye(3)[labels] * 0.9 + 0.1 / 3
    test = run[1]["test"]
    assert test["loss"] == pytest.approx(-(soft * log_p).sum(1).mean(), rel=1e-5)
    assert test["top1"] == pytest.approx((logits.argmax(1) == labels).mean())
    np.testing.assert_allclose(classifier.probabilities(tiny_arrays["x_test"]), np.exp(log_p), rtol=1e-6)


def test_other_data(run, classifier, tiny_arrays, tmp_path):
    """A source alone is preprocessed as in the run; one with other classes is refused."""
    arrays = {name: array[:9] if name.endswith("_test") else array for name, array in tiny_arrays.items()}
    np.savez(tmp_path / "few.npz", **arrays, label_names=np.array(["red", "green", "blue"]))
    source = c.Arrays(str(tmp_path / "few.npz"))
    result = classifier.evaluate(source)
    assert result["test"]["count"] == 9
    right = classifier.labels(tiny_arrays["x_test"][:9]) == tiny_arrays["y_test"][:9]
    assert result["test"]["top1"] == pytest.approx(right.mean())
    assert classifier.evaluate(dataclasses.replace(classifier.config.data, source=source)) == result
    assert classifier.evaluate(c.Arrays(), arrays=arrays) == result
    np.savez(tmp_path / "other.npz", **arrays, label_names=np.array(["red", "green", "yellow"]))
    with pytest.raises(UserError, match='the data have the class "yellow", which the model was not trained on.*blue'):
        classifier.evaluate(c.Arrays(str(tmp_path / "other.npz")))
    arrays |= {"y_train": np.where(arrays["y_train"] == 0, 3, arrays["y_train"])}
    with pytest.raises(UserError, match="the data have 4 classes, but the model was trained on 3"):
        classifier.evaluate(c.Arrays(), arrays=arrays)


def test_classes_are_matched_by_name(classifier, tiny_arrays, tmp_path):
    """The same images under other numbers, and without one of the classes: the figures of numpy's own count."""
    order = np.array([2, 0, 1])  # the new number of red, green, blue
    renamed = {name: order[array] if name.startswith("y") else array for name, array in tiny_arrays.items()}
    np.savez(tmp_path / "renamed.npz", **renamed, label_names=np.array(["green", "blue", "red"]))
    expected, result = classifier.evaluate(), classifier.evaluate(c.Arrays(str(tmp_path / "renamed.npz")))
    assert result["test"] == expected["test"]
    assert result["validation"] == expected["validation"]
    two = {}
    for split in ("train", "validation", "test"):
        rows = tiny_arrays[f"y_{split}"] != 1
        two |= {f"x_{split}": tiny_arrays[f"x_{split}"][rows], f"y_{split}": tiny_arrays[f"y_{split}"][rows] // 2}
    np.savez(tmp_path / "two.npz", **two, label_names=np.array(["red", "blue"]))
    right = classifier.labels(two["x_test"]) == 2 * two["y_test"]
    result = classifier.evaluate(c.Arrays(str(tmp_path / "two.npz")))
    assert (result["test"]["count"], result["test"]["top1"]) == (len(right), pytest.approx(right.mean()))


def test_nothing_to_evaluate(classifier, tiny_arrays):
    training = {name: array for name, array in tiny_arrays.items() if name.endswith("train")}
    with pytest.raises(UserError, match="neither validation nor test images to evaluate"):
        classifier.evaluate(c.Arrays(), arrays=training)


def test_a_held_out_share_of_other_images_is_said(classifier, tiny_arrays):
    data = dataclasses.replace(classifier.config.data, source=c.Arrays(), validation_share=0.25)
    training = {name: array for name, array in tiny_arrays.items() if name.endswith("train")}
    (note,) = classifier.evaluate(data, arrays=training)["notes"]
    assert note.startswith("the model was trained on 18 of the 18 validation images, such as x_train[")
    known = {**tiny_arrays, "x_test": np.concatenate([tiny_arrays["x_test"][:-2], tiny_arrays["x_train"][:2]])}
    (note,) = classifier.evaluate(c.Arrays(), arrays=known)["notes"]
    assert note.startswith("the model was trained on 2 of the 27 test images, such as x_test[25]: ")
    assert classifier.evaluate()["notes"] == []


def test_a_run_that_has_not_kept_its_images_says_that_they_may_be_among_others(run, tiny_arrays, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    (tmp_path / "run" / "split.npz").unlink()
    older = Classifier.load(tmp_path / "run")
    data = dataclasses.replace(older.config.data, source=c.Arrays(), validation_share=0.25)
    training = {name: array for name, array in tiny_arrays.items() if name.endswith("train")}
    (note,) = older.evaluate(data, arrays=training)["notes"]
    assert "images it was trained on may be among these validation images" in note


def test_views(run, classifier, tiny_arrays):
    """The mean of the probabilities of an image and its mirror image."""
    images = tiny_arrays["x_test"]
    both = Classifier.load(run[0], views="flip")
    expected = (classifier.probabilities(images) + classifier.probabilities(images[:, :, ::-1])) / 2
    np.testing.assert_allclose(both.probabilities(images), expected, atol=1e-6)
    assert both.evaluate()["views"] == {"validation": "center", "test": "flip"}
    assert both.evaluate(views="center") == classifier.evaluate()
    np.testing.assert_array_equal(both.features(images), classifier.features(images))


def test_features_are_what_the_head_takes(run, classifier, tiny_arrays):
    features = classifier.features(tiny_arrays["x_test"])
    assert features.shape == (27, 4 * 4 * 4)
    params = classifier.params
    np.testing.assert_allclose(
        features @ params["head.out.kernel"] + params["head.out.bias"],
        classifier.logits(tiny_arrays["x_test"]),
        rtol=1e-4,
        atol=1e-4,
    )
    assert classifier.features(tiny_arrays["x_test"][0]).shape == (64,)


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "pillow", "array"])
def test_every_form_of_an_image_is_the_same_image(kind, classifier, photographs):
    expected = classifier.probabilities(photographs["array"])
    np.testing.assert_array_equal(classifier.probabilities(photographs[kind]), expected)
    one, many = classifier.predict(photographs[kind]), classifier.predict([photographs[kind]] * 2)
    assert isinstance(one, Prediction)
    assert many == [one, one]
    assert one.path == (photographs["path"] if kind in ("path", "str") else None)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_pillow_images_and_their_files_agree(mode, classifier, tmp_path):
    """Of every mode, and turned by their EXIF orientation."""
    rng = np.random.default_rng(2)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (12, 20), dtype=np.uint16))
    else:
        channels = 3 if mode == "CMYK" else 4
        image = Image.fromarray(rng.integers(0, 256, (12, 20, channels), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(classifier.logits(opened), classifier.logits(path))
        assert opened.size == (20, 12), "the user's image stays as it is"


def test_arrays_with_and_without_channels(classifier):
    gray = np.random.default_rng(3).integers(0, 256, (8, 8), dtype=np.uint8)
    expected = classifier.logits(np.repeat(gray[..., None], 3, -1))
    np.testing.assert_array_equal(classifier.logits(gray), expected)
    np.testing.assert_array_equal(classifier.logits(gray[..., None]), expected)
    opaque = np.concatenate([np.repeat(gray[..., None], 3, -1), np.full((8, 8, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(classifier.logits(opaque), expected)


def test_the_most_probable_classes(classifier, tiny_arrays):
    images = tiny_arrays["x_test"][:5]
    for prediction, p in zip(
        classifier.predict(images, top_k=2, all_probabilities=True), classifier.probabilities(images), strict=True
    ):
        assert [choice.label for choice in prediction.top] == np.argsort(-p)[:2].tolist()
        assert prediction.label == prediction.top[0].label
        assert prediction.class_name == ("red", "green", "blue")[p.argmax()]
        assert prediction.probability == p.max()
        np.testing.assert_array_equal(prediction.probabilities, p)
    assert len(classifier.predict(images[0], top_k=9).top) == 3
    assert classifier.predict(images[0]).probabilities is None


def test_images_come_and_go_in_order(classifier, tiny_arrays, tmp_path):
    """40 of them from a generator, which is more than two batches, every seventh unreadable."""
    images = np.tile(tiny_arrays["x_test"], (2, 1, 1, 1))[:40]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    results = list(classifier.predict_each(broken if i % 7 == 3 else image for i, image in enumerate(images)))
    labels = classifier.labels(images)
    assert len(results) == 40
    for i, result in enumerate(results):
        if i % 7 == 3:
            assert result == Unreadable(str(broken), f"not a {KNOWN} image", broken)
        else:
            assert result.label == labels[i]
    assert list(classifier.predict_each([])) == []
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no.png", "^no.png cannot be read as an image: there is no such file$"),
        (b"", r"^image 1 cannot be read as an image: the file is empty \(0 bytes\)$"),
        (np.zeros((8, 8, 3), np.float32), "must hold uint8 pixels from 0 to 255, not float32"),
        (np.zeros((8, 8, 2), np.uint8), r"1, 3 or 4 channels, not \[8, 8, 2\]"),
        (np.zeros((8,), np.uint8), r"not \[8\]"),
    ],
)
def test_what_is_no_image(image, message, classifier):
    good = np.zeros((8, 8, 3), np.uint8)
    for function in (classifier.predict, classifier.logits, classifier.features):
        with pytest.raises(UserError, match=message):
            function([good, image])


def test_wrong_questions(classifier):
    with pytest.raises(UserError, match="top_k is 0, but must be at least 1"):
        classifier.predict(np.zeros((8, 8, 3), np.uint8), top_k=0)
    with pytest.raises(UserError, match="no images were given"):
        classifier.logits([])


@pytest.mark.parametrize("images", [7, [7]])
def test_what_is_of_no_kind_that_holds_an_image(images, classifier):
    """Where types are checked at run time, they say so first."""
    with pytest.raises((UserError, TypeCheckError), match="not int|7"):
        classifier.predict(images)


# ---- where it comes from


@pytest.mark.slow
def test_a_run_on_four_devices_is_used_on_one(run, tiny_arrays, tmp_path):
    """In a process that has one device; the logits differ by rounding only."""
    np.save(tmp_path / "images.npy", tiny_arrays["x_test"])
    code = (
        "import sys, jax, numpy as np\n"
        "from imgcls_jax.inference import Classifier\n"
        "assert len(jax.devices()) == 1\n"
        "classifier = Classifier.load(sys.argv[1])\n"
        "np.save(sys.argv[3], classifier.logits(np.load(sys.argv[2])))\n"
        "assert classifier.evaluate()['test']['count'] == 27\n"
    )
    import os

    subprocess.run(
        [sys.executable, "-c", code, run[0], tmp_path / "images.npy", tmp_path / "logits.npy"],
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1", "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=300,
    )
    here = Classifier.load(run[0]).logits(tiny_arrays["x_test"])
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), here, rtol=1e-5, atol=1e-5)


def test_a_sigmoid_head_gives_two_probabilities(tiny_config):
    """Of fixed logits: those of a network whose kernel is zero are its bias."""
    config = tiny_config(
        model=c.CNN(convs=(c.Conv(4, 3),), aggregate="average", head=c.Head(sigmoid=True)), loss=c.BinaryCrossEntropy()
    )
    model = models.network.of_config(config, 2)
    params, stats = model.create(jax.random.key(0))
    arrays = {path: np.zeros_like(x) for path, x in paths.flatten(params).items()}
    for logit, expected in ((0.0, [0.5, 0.5]), (np.log(3), [0.25, 0.75]), (-800.0, [1, 0])):
        arrays["head.out.bias"] = np.array([logit], np.float32)
        classifier = Classifier(trained_model(config, arrays, paths.flatten(stats), class_names=("no", "yes")))
        image = np.zeros((8, 8, 3), np.uint8)
        np.testing.assert_allclose(classifier.probabilities(image), expected, atol=1e-6)
        assert classifier.predict(image).label == np.argmax(expected)


def test_what_is_no_source(tiny_config, tmp_path):
    with pytest.raises(UserError, match="is .* the work directory of a run"):
        Classifier.load(tmp_path)
    with pytest.raises(UserError, match="neither the work directory of a run nor a name of published weights"):
        Classifier.load("torchvision/resnet51")
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(UserError, match="is a file of weights, which needs a config"):
        Classifier.load(tmp_path / "weights.pth")
    with pytest.raises(UserError, match="random weights predict nothing"):
        evaluate(tiny_config())


def test_a_damaged_checkpoint_is_one_sentence(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("state/**/*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="no sound checkpoint is left in .*run/checkpoints: each of 3 is damaged"):
        Classifier.load(tmp_path / "run")


# ---- published weights


def test_the_command(run, classifier, tiny_arrays, tmp_path, capfd):
    """Of files without labels, one of which is no image."""
    names = [f"{i:02}.jpeg" for i in range(27)]  # PNG inside: Pillow goes by the content, and PNG loses nothing
    folder = tmp_path / "test_images" / "mystery"
    folder.mkdir(parents=True)
    for image, name in zip(tiny_arrays["x_test"], names, strict=True):
        Image.fromarray(image).save(folder / name, format="PNG")
    (folder / "05.jpeg").write_bytes(b"nothing")
    (folder / "._04.jpeg").write_bytes(b"what macOS writes beside a file")
    (folder / "IMG_1.XCF").touch()
    table = tmp_path / "out.csv"
    message = f"1 of 28 images cannot be read, all others are classified; the first is {folder / '05.jpeg'} (not a JPEG"
    with pytest.raises(UserError, match=re.escape(message)):
        command.main(["--workdir", str(run[0]), str(folder / "06.jpeg"), str(folder), "--csv", str(table)])
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 28
    reason = f"unreadable: not a {KNOWN} image"
    assert f"unreadable: {folder / '05.jpeg'}: {reason.removeprefix('unreadable: ')}" in out.splitlines()
    assert f"passed over in {folder}: 1 .xcf file, 1 hidden or of the system\n" in err
    with open(table) as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(folder / "06.jpeg"), *(str(folder / name) for name in names)]
    assert rows[6] == {"file": str(folder / "05.jpeg"), "label": "", "class": "", "probability": "", "status": reason}
    assert [row["status"] for i, row in enumerate(rows) if i != 6] == ["ok"] * 27
    assert rows[0]["class"] == classifier.class_names[int(rows[0]["label"])]
    best = classifier.probabilities(tiny_arrays["x_test"][6]).max()
    assert float(rows[0]["probability"]) == pytest.approx(best, abs=1e-5)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_table_that_cannot_be_written_is_said_before_the_work(run, tiny_arrays, tmp_path, monkeypatch):
    Image.fromarray(tiny_arrays["x_test"][0]).save(tmp_path / "0.png")
    monkeypatch.setattr(Classifier, "load", None)
    for place, reason in {
        tmp_path: "it is a folder: give the name of a file",
        tmp_path / "0.png" / "x.csv": "File exists",
    }.items():
        with pytest.raises(UserError, match=f"^{place} cannot be written: {reason}"):
            command.main(["--workdir", str(run[0]), str(tmp_path / "0.png"), "--csv", str(place)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [folder / "no.png"], "there is no file or folder"),
        (lambda folder: [folder], "holds no images"),
    ],
)
def test_nothing_to_predict(make, message, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=message):
        command.find(make(tmp_path))
