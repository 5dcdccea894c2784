"""What is told while data are opened and decoded: on_progress(label, done, total)."""

import numpy as np
import pytest

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import load
from imgcls_jax.data.sources import tfds
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.data.sources.tfds import TFDS


@pytest.fixture
def told():
    """(Calls by label in the order of the labels, the callback)."""
    calls = {}

    def on_progress(label, done, total):
        assert isinstance(label, str)
        calls.setdefault(label, []).append((done, total))

    return calls, on_progress


def test_folder(pets, settings, told):
    calls, on_progress = told
    load(settings(Folder(str(pets))), on_progress=on_progress)
    assert list(calls.items()) == [
        (f"listing {pets}/train", [(0, 2), (1, 2)]),
        (f"listing {pets}/val", [(0, 2), (1, 2)]),
        ("decoding the train images", [(10, 10)]),
        ("decoding the validation images", [(3, 3)]),
    ]
    calls.clear()
    load(settings(Folder(str(pets))), on_progress=on_progress)
    assert not any("decoding" in label for label in calls)


def test_digits_are_prepared_then_read_then_decoded(settings, told, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "_LABEL_CHUNK", 1000)
    calls, on_progress = told
    source = TFDS("imgcls_digits", "train", None, "test", data_dir=str(tmp_path / "tfds"))
    gray = settings(source, canvas=Canvas(8, 8, 1), mean=(0.5,), std=(0.5,))
    load(gray, on_progress=on_progress)
    title = "the tfds set imgcls_digits/1.0.0"
    assert list(calls) == [
        "opening the tfds set imgcls_digits",
        "preparing the digits",
        f"reading the train labels of {title}",
        f"reading the test labels of {title}",
        "decoding the train images",
        "decoding the test images",
    ]
    assert calls["opening the tfds set imgcls_digits"] == [(0, None)]
    assert sorted(done for done, _ in calls["preparing the digits"]) == list(range(1, 1798))
    assert {total for _, total in calls["preparing the digits"]} == {1797}
    assert calls[f"reading the train labels of {title}"] == [(1000, 1438), (1438, 1438)]
    assert calls["decoding the train images"][-1] == (1438, 1438)
    calls.clear()
    load(gray, on_progress=on_progress)
    assert "preparing the digits" not in calls


def test_without_a_cache_the_first_pass_is_told(settings, told):
    calls, on_progress = told
    arrays = {"x_train": np.zeros((70, 9, 9, 3), np.uint8), "y_train": np.arange(70) % 2}
    load(settings(Arrays(), cache_gib=0.0), arrays=arrays, on_progress=on_progress)
    assert calls == {"decoding the train images": [(64, 70), (70, 70)]}
