"""Charts, maps, and pictures within a budget."""

import contextlib
import math

import numpy as np
import pytest
from html_document import Document
from PIL import Image
from sklearn.decomposition import PCA

from imgcls_jax import config as c
from imgcls_jax.cli import report
from imgcls_jax.data.dataset import load
from imgcls_jax.errors import UserError
from imgcls_jax.report.html import data, svg, training
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.html.pictures import Album
from imgcls_jax.report.record import RunRecord


def test_ticks_are_round_and_within():
    assert svg.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert svg.ticks(3, 17) == [5, 10, 15]
    assert svg.ticks(2, 2) == [2]
    rng = np.random.default_rng(0)
    for low, width in zip(rng.normal(size=50), np.exp(rng.normal(scale=5, size=50)), strict=True):
        found = svg.ticks(low, low + width)
        assert 2 <= len(found) <= 8
        assert low - 1e-9 * width <= found[0] < found[-1] <= low + width * (1 + 1e-9)


def test_text_in_a_chart_is_escaped():
    drawn = svg.lines([svg.Series("<b>&", "run0", [(1, 2.0), (2, math.nan), (3, 1.0)])], title='"x"', ylabel="<y>")
    document = Document(str(drawn))
    assert document.faults == []
    assert document.all("b") == []
    (path,) = document.all("path")
    assert path["attributes"]["d"].count("M") == 2, "a value that is not finite interrupts the line"
    assert document.all("svg")[0]["attributes"]["aria-label"].startswith('"x" over epochs. <b>&: from 2 to 1')


def test_a_chart_of_one_epoch():
    drawn = svg.lines([svg.Series("train", "train", [(1.0, 0.5)])], title="loss", ylabel="")
    assert "nan" not in str(drawn)


def test_principal_components_are_sklearns():
    values = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) @ np.diag(range(1, 8)).astype(np.float32)
    found, shares = data.principal(values)
    reference = PCA(2)
    expected = reference.fit_transform(values.astype(np.float64))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-6)
    points, shares = data.principal(np.ones((3, 1), np.float32))
    assert not points.any()
    assert shares == (0, 0)


def test_an_album_ends_where_its_bytes_do():
    image = np.random.default_rng(0).integers(0, 255, (200, 100, 3)).astype(np.uint8)
    album = Album(9_000)
    first = album.add(image)
    assert first is not None
    assert first.startswith("data:image/")
    found = [album.add(image) for _ in range(9)]
    assert found[-1] is None
    assert album.is_full
    assert sum(map(len, [first, *filter(None, found)])) <= 9_000
    assert Album(9_000).add(Image.new("L", (8, 8))) is not None


def test_recoveries_are_read_from_the_newest_checkpoint(tiny_config, tmp_path, monkeypatch):
    class Checkpoints:
        run = None

        def newest_sound(self, read, tell):
            return {"recoveries": 2, "recovered_epochs": [1, 4]}

    monkeypatch.setattr(training.checkpoint, "of_run", lambda workdir: contextlib.nullcontext(Checkpoints()))
    run = RunRecord("tiny", tmp_path, tiny_config(recover=c.Recover(factor=0.5)), [], None)
    assert training.recoveries(run) == [
        (1.5, "went back in epoch 2, which was not finite; learning rate × 0.5"),
        (4.5, "went back in epoch 5, which was not finite; learning rate × 0.25"),
    ]


def test_pairs_that_are_nearly_the_same_are_shown(tiny_config, tmp_path):
    """Copies of other files, as a re-encoded photograph is: one in two splits, one with another label."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 6, 6, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small])
    near = np.clip(images.astype(int) + rng.integers(-1, 2, images.shape), 0, 255).astype(np.uint8)
    arrays = {
        "x_train": np.concatenate([images[:6], near[:1]]),
        "y_train": np.array([0, 1, 2, 0, 1, 2, 1]),
        "x_test": np.concatenate([images[6:], near[3:4]]),
        "y_test": np.array([0, 1, 2, 0]),
    }
    settings = c.Data(c.Arrays(), c.Canvas(32, 32), (32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    material = Material(RunRecord("tiny", tmp_path, tiny_config(), [], None), None)
    material.__dict__["dataset"] = load(settings, arrays=arrays)
    found = data.duplicates(material, Album(10**6))
    assert found["count"] == 0
    first, second = found["near"]["pairs"]
    assert (found["near"]["count"], found["near"]["across"]) == (2, 1)
    assert first["across"] and not first["differ"]
    assert [split for split, *_ in first["images"]] == ["train", "test"]
    assert second["differ"] and not second["across"]
    assert all(pair["pictures"][0] and pair["pictures"][1] for pair in (first, second))


def test_the_page_is_a_page(tmp_path):
    with pytest.raises(UserError, match=r"^--html x.pdf: the file is a page, so its name must end in .html$"):
        report.main([str(tmp_path), "--html", "x.pdf"])


def test_what_changes_in_a_training_is_marked(tiny_config):
    config = tiny_config(
        augment=(c.HorizontalFlip(until_epoch=3),),
        transfer=c.Transfer(
            freeze=("convs.*",), unfreeze=(c.Unfreeze("convs.*", from_epoch=2),), allow_frozen_random=True
        ),
    )
    assert training.changes(config) == [
        (3.5, "HorizontalFlip ends before epoch 4"),
        (2.5, "convs.* trains from epoch 3 on"),
    ]
