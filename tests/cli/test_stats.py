"""Statistics of a data set, against numpy and Pillow."""

import re
import statistics

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.cli import app
from imgcls_jax.cli import stats as command
from imgcls_jax.data.image_formats import KNOWN
from imgcls_jax.doctor import data_statistics as stats
from imgcls_jax.errors import UserError

SIZES = [(12, 20), (17, 9), (10, 10), (30, 11), (9, 9)]
"""Height and width of the photographs of each class."""


@pytest.fixture
def photos(tmp_path):
    """PHOTOS/{cat,dog}/*, five images each but one that is no image, and their pixels as Pillow resizes them to 8×8."""
    rng = np.random.default_rng(0)
    seen = []
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, (height, width) in enumerate(SIZES):
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8) // (1, 2, 3)[i % 3])
            image.save(tmp_path / "photos" / name / (f"{i}.PNG" if i == 0 else f"{i}.bmp"))
            short = min(height, width)
            resized = image.resize((8 * width // short, 8 * height // short), Image.Resampling.BILINEAR)
            left, top = round((resized.width - 8) / 2), round((resized.height - 8) / 2)
            seen.append(np.asarray(resized.crop((left, top, left + 8, top + 8))))
    (tmp_path / "photos" / "dog" / "broken.jpg").write_text("no image")
    return tmp_path / "photos", np.stack(seen)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))


def test_a_folder_against_numpy(photos):
    folder, pixels = photos
    found = stats.compute(stats.of_folder(str(folder), size=8, channels=3))
    np.testing.assert_allclose(found.mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, (pixels / 255).std((0, 1, 2)), rtol=1e-9)
    assert found.counts == {"train": {"cat": 5, "dog": 5}}
    heights, widths = ([size[side] for size in SIZES] * 2 for side in (0, 1))
    assert found.heights == (min(heights), statistics.median(heights), max(heights))
    assert found.widths == (min(widths), statistics.median(widths), max(widths))
    assert found.suffixes == {".bmp": 8, ".png": 2}
    assert [(image.path, image.reason) for image in found.bad] == [("dog/broken.jpg", f"not a {KNOWN} image")]


def test_grayscale(photos):
    folder, _ = photos
    found = stats.compute(stats.of_folder(str(folder), size=8, channels=1))
    assert len(found.mean) == len(found.std) == 1


def test_rotated_photographs_count_as_they_are_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / name / "0.jpg", exif=exif)
    found = stats.compute(stats.of_folder(str(tmp_path), size=8, channels=3))
    assert (found.heights, found.widths) == ((30, 30, 30), (20, 20, 20))


def test_what_is_printed_can_be_pasted(photos, capsys):
    folder, pixels = photos
    app.main(["stats", str(folder), "--size", "8"])
    out = capsys.readouterr().out
    line = re.search(r"^mean=.*, std=.*\)$", out, re.MULTILINE)[0]
    pasted = eval(f"dict({line})")
    np.testing.assert_allclose(pasted["mean"], (pixels / 255).mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(pasted["std"], (pixels / 255).std((0, 1, 2)), rtol=1e-3)
    assert "cat" in out and "8 .bmp, 2 .png" in out
    assert "1 images cannot be read" in out and "dog/broken.jpg" in out
    assert max(map(len, out.splitlines())) <= 80


def test_of_a_config_only_training_images_count(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels)
    settings = c.Data(
        c.Arrays(str(tmp_path / "images.npz")), c.Canvas(8, 8), (8, 8), (0.0,) * 3, (1.0,) * 3, validation_share=0.25
    )
    found = stats.compute(settings)
    assert found.counts == {"train": {"0": 15, "1": 15}, "validation": {"0": 5, "1": 5}}
    from imgcls_jax import data

    ids = data.load(settings).train.ids
    chosen = images[[int(id[8:-1]) for id in ids]] / 255
    np.testing.assert_allclose(found.mean, chosen.mean((0, 1, 2)), rtol=1e-12)
    assert found.suffixes == {}


def test_a_config_from_the_command_line(digits_config, capsys):
    app.main(["stats", "--config", str(digits_config)])
    assert re.search(r"^mean=\(0\.3\d*,\), std=\(0\.3\d*,\)$", capsys.readouterr().out, re.MULTILINE)


@pytest.fixture
def digits_config(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return "configs/digits_cnn.py"


def test_one_color(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 51).save(tmp_path / "flat" / name / "0.png")
    app.main(["stats", str(tmp_path / "flat"), "--channels=1", "--size=8"])
    out = capsys.readouterr().out
    assert out.startswith("mean=(0.2,), std=(0,)\na channel has the same value in every pixel")


def test_many_classes_are_summed_up(capsys):
    from imgcls_jax.display.console import Console

    counts = {f"class{i}": 100 + i for i in range(30)}
    command._show(stats.Stats((0.5,), (0.25,), {"train": counts}, (1, 2.5, 3), (1, 2.0, 3), {}, ()), Console())
    out = capsys.readouterr().out
    assert "100 (class0)" in out and "129 (class29)" in out and "class7" not in out
    assert "least 1, median 2.5, greatest 3" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which images: imgcls stats FOLDER"),
        (["nowhere"], "nowhere does not exist"),
        (["nowhere", "--size=0"], "--size: must be a whole number of at least 1, not '0'"),
        (["nowhere", "--config", "configs/digits_cnn.py"], "leave out FOLDER, --size, --channels"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError) as error:
        command.main(arguments)
    assert message in str(error.value)
