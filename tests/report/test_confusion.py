"""Confusion matrices."""

import csv

import numpy as np
from PIL import Image
from sklearn.metrics import confusion_matrix

from imgcls_jax.report import confusion


def test_matrix_equals_sklearns():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 7, 500), rng.integers(0, 6, 500)  # class 6 is never predicted
    ours = confusion.matrix(labels.astype(np.int32), predicted, 7)
    np.testing.assert_array_equal(ours, confusion_matrix(labels, predicted, labels=range(7)))


def test_csv_and_picture(tmp_path):
    counts = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 5]])
    names = ("cat", "dog, small", "fox")
    confusion.write_csv(counts, names, tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(names)
    assert rows[3] == ["fox", "2", "0", "5"]
    confusion.plot(counts, names, tmp_path / "x.png", title="three")  # a class without examples divides by nothing
    with Image.open(tmp_path / "x.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 50


def test_an_output_that_is_no_class_is_a_miss(tmp_path):
    """A published output layer is kept: more outputs than classes."""
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([3, 0, 1, 999, 2])
    counts = confusion.matrix(labels, predicted, 2)
    np.testing.assert_array_equal(counts, [[1, 0, 1], [0, 1, 2]])
    assert counts.trace() == (labels == predicted).sum()
    confusion.write_csv(counts, ("cat", "dog"), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines()[0].endswith("cat,dog,another output")
    confusion.plot(counts, ("cat", "dog"), tmp_path / "x.png", title="surgery")
