"""Scores, the official layout, and the command."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.cli import corruptions as __main__
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES, corrupt, measure, photographs
from imgcls_jax.evaluation.corruptions.official import Arrays
from imgcls_jax.evaluation.corruptions.score import Score


class Brightest:
    """Stands in for a model: the class is the channel that is brightest on average."""

    def labels(self, canvases):
        return canvases.mean((1, 2)).argmax(1)


class Test:
    """Stands in for a test split: photographs, whose class is what `Brightest` says of them."""

    __test__ = False

    def __init__(self, images):
        self.images, self.labels = images, Brightest().labels(images)
        self.canvas = type("Canvas", (), dict(height=32, width=32))
        self.name = "test"

    def __len__(self):
        return len(self.images)

    def read(self, rows):
        return self.images[rows]


def test_score_of_a_test_set(photographs):
    photographs = photographs[:8]
    test = Test(photographs)
    score = measure.of_test_set(Brightest().labels, test, limit=None, seed=3, progress=lambda line: None)
    assert score.clean == 1
    assert list(score.accuracy) == list(CORRUPTIONS)
    right = Brightest().labels(corrupt(photographs, "fog", 5, seed=3)) == test.labels
    assert score.accuracy["fog"][4] == right.mean()
    flat = [corrupt(photographs, name, s, seed=3) for name in CORRUPTIONS for s in SEVERITIES]
    assert score.mean == pytest.approx(np.mean([Brightest().labels(images) == test.labels for images in flat]))


def test_a_limited_score_is_part_of_the_whole(photographs):
    """The same images with the same corruptions, spread over the set."""
    seen = []

    class Watching(Brightest):
        def labels(self, canvases):
            seen.append(canvases)
            return super().labels(canvases)

    score = measure.of_test_set(Watching().labels, Test(photographs), limit=3, seed=0, progress=lambda line: None)
    assert (score.images, score.of) == (3, 24)
    np.testing.assert_array_equal(seen[0], photographs[[0, 8, 16]])
    np.testing.assert_array_equal(seen[1], corrupt(photographs, "gaussian_noise", 1)[[0, 8, 16]])
    assert score.summary()["LIMITED"] == "to 3 of 24 images of each corruption and severity"


def test_figures():
    accuracy = {name: np.full(5, 0.9 if name in BENCHMARK else 0.5) for name in CORRUPTIONS}
    accuracy["fog"] = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    score = Score(accuracy, "somewhere", images=10, of=10, clean=0.95, remarks={"frost": "not comparable"})
    assert score.mean == pytest.approx((14 * 0.9 + 0.7 + 4 * 0.5) / 19)
    assert score.benchmark_error == pytest.approx(1 - (14 * 0.9 + 0.7) / 15)
    text = " ".join(score.markdown().split())  # without the padding
    assert "| fog | 90.00 | 80.00 | 70.00 | 60.00 | 50.00 | 70.00 |" in text
    assert "| frost * | 90.00" in text and "- note on frost: not comparable" in text
    assert not score.is_comparable and "- of the benchmark's 15: 11.33 %, not comparable" in text
    published = dataclasses.replace(score, remarks={})
    assert published.is_comparable
    assert "- of the benchmark's 15: 11.33 %, the mean error, as published for CIFAR-10-C" in published.markdown()
    assert "LIMITED" not in text
    document = json.loads(json.dumps(score.document()))
    assert document["corruptions"]["fog"] == {"accuracy": [0.9, 0.8, 0.7, 0.6, 0.5], "mean": pytest.approx(0.7)}
    assert document["mean_corruption_error"] == pytest.approx(1 - score.mean)
    few = Score({"fog": accuracy["fog"]}, "somewhere", images=10, of=10)
    assert few.benchmark_error is None
    assert "benchmark" not in few.markdown()


# ---- arrays


def save(folder, names, images=4, labels=True, **changes):
    """Arrays whose pixels tell the severity, the image and the corruption."""
    folder.mkdir()
    for number, name in enumerate(names):
        pixels = np.zeros((5 * images, 8, 8, 3), np.uint8)
        pixels[..., 0] = np.repeat(np.arange(1, 6), images)[:, None, None]
        pixels[..., 1] = np.tile(np.arange(images), 5)[:, None, None]
        pixels[..., 2] = number
        np.save(folder / f"{name}.npy", changes.get(name, pixels))
    if labels is True:
        labels = np.tile(np.arange(images), 5)
    if labels is not False:
        np.save(folder / "labels.npy", labels)
    return folder


def test_official_layout(tmp_path):
    arrays = Arrays(save(tmp_path / "C", ["snow", "fog", "contrast"]))
    assert arrays.names == ("snow", "fog", "contrast"), "in the official order"
    assert arrays.count == 4
    images = arrays.images("contrast", 3, np.array([1, 3]))
    np.testing.assert_array_equal(images[:, 0, 0], [[3, 1, 2], [3, 3, 2]])
    np.testing.assert_array_equal(arrays.labels, np.tile(np.arange(4), (5, 1)))


def test_labels_of_the_images_alone(tmp_path):
    arrays = Arrays(save(tmp_path / "C", ["snow"], labels=np.array([3, 1, 0, 2], np.uint8)))
    np.testing.assert_array_equal(arrays.labels, np.tile([3, 1, 0, 2], (5, 1)))


class Second:
    """Stands in for a model: the class is the second channel, but at severity 5."""

    def labels(self, canvases):
        return np.where(canvases[:, 0, 0, 0] == 5, 9, canvases[:, 0, 0, 1]).astype(np.int64)


def test_score_of_arrays(tmp_path):
    names = [f"distortion{i:02}" for i in range(12)]
    labels, score = measure.of_arrays(Second().labels, Arrays(save(tmp_path / "C", names)), limit=None, progress=print)
    assert labels.shape == (12, 5, 4)
    assert score.mean == pytest.approx(0.8)
    assert list(score.accuracy["distortion11"]) == [1, 1, 1, 1, 0]


def test_without_labels_there_are_predictions(tmp_path):
    arrays = Arrays(save(tmp_path / "C", ["distortion00"], labels=False))
    labels, score = measure.of_arrays(Second().labels, arrays, limit=None, progress=print)
    assert score is None
    assert labels.shape == (1, 5, 4)
    assert labels[0, 3].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(names=["fog", "distortion00"]), "holds both named and numbered arrays: keep one kind"),
        (dict(names=["rain"]), "holds no corrupted images: expected gaussian_noise.npy …, or distortion00.npy …"),
        (dict(names=["fog"], fog=np.zeros((6, 8, 8, 3), np.uint8)), "fog.npy must be uint8 [5 · n, h, w, 3]"),
        (dict(names=["fog"], fog=np.zeros((5, 8, 8, 3))), "not float64 [5, 8, 8, 3]"),
        (dict(names=["snow", "fog"], fog=np.zeros((5, 8, 8, 3), np.uint8)), "fog.npy has 5 rows, but"),
        (dict(names=["fog"], labels=np.arange(7)), "labels.npy must be 20 integers, one a row, not int64 [7]"),
        (dict(names=["fog"], labels=np.zeros(20)), "not float64 [20]"),
    ],
)
def test_wrong_arrays(arguments, message, tmp_path):
    folder = save(tmp_path / "C", **arguments)
    with pytest.raises(UserError) as error:
        Arrays(folder)
    assert message in str(error.value)


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "fog.npy").write_text("no array")
    with pytest.raises(UserError, match="is not a .npy file of plain numbers"):
        Arrays(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        Arrays(tmp_path / "none")


# ---- the command


def test_the_command(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(photographs, "folder", lambda: None)  # as without the package imagecorruptions
    workdir, _, _ = finished_run
    command = ["--workdir", str(workdir), "--size", "8", "--limit", "6"]
    __main__.main([*command, "--sheet", str(tmp_path / "sheet.png"), "--image", "2"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 6 * 96 and sheet.height > 19 * 96
    __main__.main(command)
    document = json.loads((workdir / "corruptions.json").read_text())
    assert (document["images"], document["of"]) == (6, 27)
    assert document["source"] == "our corruptions of the test images at 8 × 8 pixels, seed 0"
    assert list(document["corruptions"]) == list(CORRUPTIONS)
    assert document["corruptions"]["frost"]["remark"].startswith("procedural texture, not comparable: pip install")
    assert document["comparable"] is False
    assert (workdir / "corruptions.md").read_text().strip() in capsys.readouterr().out
    with Image.open(workdir / "corruptions.png") as image:
        assert image.width > 300

    arrays = save(tmp_path / "C", ["distortion00", "distortion01"], labels=False)
    with pytest.raises(UserError, match=r"C has no labels.npy, so that there is no score to compute"):
        __main__.main(["--workdir", str(workdir), "--arrays", str(arrays)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --workdir RUN, the folder of a run, or --config FILE.py with --weights FILE|NAME"),
        (["--weights", "x.pth"], "--weights needs --config"),
        (["--config", "configs/digits_cnn.py"], "a config alone has no trained weights: add --weights FILE|NAME"),
        (["--config", "configs/digits_cnn.py", "--workdir", "x"], "there is no run x"),
        (["--workdir", "x", "--limit", "0"], "--limit: must be a whole number of at least 1, not '0'"),
        (["--workdir", "x", "--size", "7"], "--size: must be a whole number of at least 8, not '7'"),
    ],
)
def test_flags_that_contradict(arguments, message, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    with pytest.raises(UserError) as error:
        __main__.main(arguments)
    assert message in str(error.value)


def test_no_test_images(tiny_config, tiny_arrays, tmp_path):
    from imgcls_jax import config as c

    np.savez(tmp_path / "images.npz", x_train=tiny_arrays["x_train"], y_train=tiny_arrays["y_train"])
    settings = tiny_config().data
    data = c.Data(c.Arrays(str(tmp_path / "images.npz")), settings.canvas, (8, 8), settings.mean, settings.std)
    with pytest.raises(UserError, match="the config has no test images to corrupt"):
        measure.load(data, 8)


def test_the_validation_images(tiny_config, tiny_arrays, tmp_path):
    from imgcls_jax import config as c

    kept = {name: array for name, array in tiny_arrays.items() if not name.endswith("test")}
    np.savez(tmp_path / "images.npz", **kept, label_names=np.array(["b", "a", "c"]))
    settings = tiny_config().data
    data = c.Data(c.Arrays(str(tmp_path / "images.npz")), settings.canvas, (8, 8), settings.mean, settings.std)
    with pytest.raises(UserError, match="or take the validation images: --split validation"):
        measure.load(data, 8)
    images, names = measure.load(data, 8, split="validation", trained=("a", "b", "c"))
    assert names == ("a", "b", "c")
    np.testing.assert_array_equal(images.labels, np.array([1, 0, 2])[tiny_arrays["y_validation"]])
    np.testing.assert_array_equal(images.read(np.arange(21)), tiny_arrays["x_validation"])
