"""Checks of the data, each of data that are really broken, and of the same data before."""

import io

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data import Splits, pixels
from imgcls_jax.doctor import data_checks, data_statistics
from imgcls_jax.doctor.findings import CHECKS, Subject, examine
from imgcls_jax.training.loop import train
from imgcls_jax.weights.plan import Row


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))


def smooth(seed, side=48):
    """A photograph-like image: noise of low frequency."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """PHOTOS/{train,test}/{cat,dog}: 24 and 4 different images of each class."""
    seed = 0
    for split, count in (("train", 24), ("test", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                smooth(seed := seed + 1).save(folder / f"{i}.png")
    return tmp_path / "photos"


def found(folder, *names, **changes):
    """Findings of a folder by name of the check."""
    settings = data_statistics.of_folder(str(folder), size=32, channels=3)
    subject = Subject(settings, dataset=data.load(settings), **changes)
    checks = [check for check in CHECKS if check.run.__module__ == data_checks.__name__]
    result = {}
    for finding in examine(subject, checks)[0]:
        result.setdefault(finding.check, []).append(finding)
    return result


def test_sound_images_have_no_finding(photos):
    assert found(photos) == {}


def test_unreadable(photos):
    (photos / "train/dog/3.png").write_text("no image")
    (finding,) = found(photos)["unreadable"]
    assert finding.items == ("train/dog/3.png",)
    assert finding.level == "warning"


def test_exact_duplicates(photos):
    content = (photos / "train/cat/0.png").read_bytes()
    (photos / "train/cat/copy.png").write_bytes(content)
    (finding,) = found(photos)["exact_duplicates"]
    assert (finding.level, finding.items) == ("warning", ("train:train/cat/0.png = train:train/cat/copy.png",))
    assert "several times in a split" in finding.what

    (photos / "train/cat/copy.png").unlink()
    (photos / "test/dog/leak.png").write_bytes(content)
    leak, labels = found(photos)["exact_duplicates"]
    assert (leak.level, leak.items) == ("error", ("train:train/cat/0.png = test:test/dog/leak.png",))
    assert "several splits" in leak.what
    assert "several labels" in labels.what


@pytest.mark.parametrize("change", ["quality", "size", "brightness"])
def test_near_duplicates(photos, change):
    image = Image.open(photos / "train/cat/0.png")
    if change == "quality":
        image.save(photos / "test/cat/again.jpg", quality=60)
    elif change == "size":
        image.resize((90, 90), Image.Resampling.LANCZOS).save(photos / "test/cat/again.png")
    else:
        image.point(lambda value: int(0.85 * value)).save(photos / "test/cat/again.png")
    findings = found(photos)
    assert "exact_duplicates" not in findings
    (finding,) = findings["near_duplicates"]
    assert finding.level == "warning"
    assert [item.split(" = ")[0] for item in finding.items] == ["train:train/cat/0.png"]


def test_perceptual_hashes_against_a_plain_cosine_transform():
    gray = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    k, x = np.meshgrid(np.arange(8), np.arange(32), indexing="ij")
    basis = np.cos(np.pi * (2 * x + 1) * k / 64) * np.where(k == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))
    for image, code in zip(gray, pixels.perceptual_hashes(gray).tolist(), strict=True):
        low = (basis @ image @ basis.T).ravel()
        low[0] = 0
        assert f"{code:064b}" == "".join(str(int(value > np.median(low[1:]))) for value in low)


def test_constant(photos):
    Image.new("RGB", (40, 40), (9, 200, 30)).save(photos / "train/dog/empty.png")
    (finding,) = found(photos)["constant"]
    assert finding.items == ("train/dog/empty.png",)


def test_tiny(photos):
    smooth(99, side=7).save(photos / "test/cat/icon.png")
    (finding,) = found(photos)["tiny"]
    assert finding.items == ("test/cat/icon.png (7×7)",)


def test_few_images_and_absent_classes(photos):
    for i in range(5, 24):
        (photos / f"train/dog/{i}.png").unlink()
    for i in range(4):
        (photos / f"test/dog/{i}.png").unlink()
    few, absent = found(photos)["few_images"]
    assert few.items == ("dog (5)",)
    assert absent.items == ("dog",)
    assert "test split" in absent.what


def test_imbalance(photos):
    for i in range(2, 24):
        (photos / f"train/dog/{i}.png").unlink()
    (finding,) = found(photos)["imbalance"]
    assert "12 times" in finding.what
    assert finding.evidence == "cat 24, dog 2"


def test_balanced_sampling_makes_up_for_imbalance(photos, tiny_config):
    for i in range(2, 24):
        (photos / f"train/dog/{i}.png").unlink()
    settings = c.Data(c.Folder(str(photos)), c.Canvas(8, 8), (8, 8), (0.5,) * 3, (0.25,) * 3, sampling="balanced")
    subject = Subject(settings, tiny_config(data=settings), data.load(settings))
    assert not list(data_checks.imbalance(subject))


@pytest.mark.parametrize("quick", [False, True])
def test_normalization(tiny_config, tiny_arrays, quick):
    def findings(mean, std):
        settings = c.Data(c.Arrays(), c.Canvas(8, 8), (8, 8), mean=mean, std=std)
        subject = Subject(settings, tiny_config(data=settings), data.load(settings, arrays=tiny_arrays), quick=quick)
        return list(data_checks.normalization(subject))

    images = tiny_arrays["x_train"] / 255
    mean, std = images.mean((0, 1, 2)), images.std((0, 1, 2))
    assert not findings(tuple(mean), tuple(std))
    (far,) = findings((0.0,) * 3, (1.0,) * 3)
    assert f"mean=({mean[0]:.3g}, {mean[1]:.3g}, {mean[2]:.3g})" in far.fix
    assert findings(tuple(mean), tuple(4 * std))


class Reordered(c.Source):
    """The data of a run, with its classes in another order."""

    path: str

    def open(self, arrays=None, on_progress=None):
        with np.load(self.path) as file:
            images, labels = file["x_train"], file["y_train"]
        return Splits.from_pairs("x", zip(images, labels.tolist(), strict=True), class_names=("green", "red", "blue"))


@pytest.mark.slow
def test_class_order_of_a_loaded_head(finished_run, tiny_config, tmp_path):
    run, _, _ = finished_run

    def findings(source, row="loaded"):
        settings = c.Data(source, c.Canvas(8, 8), (8, 8), (0.5,) * 3, (0.25,) * 3)
        config = tiny_config(data=settings, transfer=c.Transfer(init_from=str(run)))
        plan = type("Plan", (), {"rows": (Row("head.out.kernel", (1,), row, 0, "default", 1.0, 1.0),)})
        return list(data_checks.class_order(Subject(settings, config, data.load(settings), plan=plan)))

    path = str(tmp_path / "images.npz")
    assert not findings(c.Arrays(path))
    (finding,) = findings(Reordered(path))
    assert finding.level == "error"
    assert "another order" in finding.what
    assert finding.items == ("output 0 is red there, green here", "output 1 is green there, red here")
    assert not findings(Reordered(path), row="replaced")


def test_images_that_the_loaded_weights_know(finished_run, tiny_config, tmp_path):
    run, _, arrays = finished_run

    def findings(**changed):
        path = tmp_path / "others.npz"
        np.savez(path, **{**arrays, **changed})
        settings = c.Data(c.Arrays(str(path)), c.Canvas(8, 8), (8, 8), (0.5,) * 3, (0.25,) * 3)
        config = tiny_config(data=settings, transfer=c.Transfer(init_from=str(run)))
        return list(data_checks.trained_before(Subject(settings, config, data.load(settings))))

    assert findings() == []
    (finding,) = findings(x_validation=np.concatenate([arrays["x_validation"][:-3], arrays["x_train"][:3]]))
    assert finding.level == "warning"
    assert "was trained on 3 of the 21 validation images" in finding.what
    assert len(finding.items) == 3


def test_content_of_every_kind_of_image(tmp_path):
    file = io.BytesIO()
    smooth(1).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    assert pixels.content(tmp_path / "a.png") == pixels.content(file.getvalue())
    array = np.zeros((2, 3), np.uint8)
    assert pixels.content(array) != pixels.content(array.T)


@pytest.mark.slow
def test_training_says_what_is_found_and_changes_nothing(tiny_config, tiny_arrays, tmp_path, monkeypatch, capsys):
    few = {name: array[:34] if "train" in name else array for name, array in tiny_arrays.items()}
    first = train(tiny_config(), tmp_path / "a", arrays=few)
    assert "classes have fewer than 20 training images" in capsys.readouterr().out
    monkeypatch.setattr("imgcls_jax.training.checkup.before_training", lambda *_: None)
    second = train(tiny_config(), tmp_path / "b", arrays=few)
    for record in (*first["history"], *second["history"]):
        for name in ("seconds", "images_per_second", "waited_for_data"):
            record.pop(name)
    assert first["history"] == second["history"]
