"""What is written at the end of a run, and the table of its classes."""

import csv
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from imgcls_jax import config as c
from imgcls_jax.data import Split
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import per_class, scores
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.report import confusion, mistakes
from imgcls_jax.training import closing
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.loop import train
from imgcls_jax.training.run import Run

FILES = {"confusion.png", "mistakes.png", "per_class.csv", "predictions_validation.npz", "predictions_test.npz"}


class _Gray(Split):
    def __init__(self):
        pass

    def read(self, indices):
        return np.full((len(indices), 8, 8, 1), 130, np.uint8)


@pytest.fixture
def predictions() -> Predictions:
    """Of 300 images of four classes, of which the last has no image, one more output is never right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300).astype(np.int32)
    logits = rng.normal(size=(300, 5)).astype(np.float32)
    logits[np.arange(300), labels] += 1
    names = tuple(f"{i:03}.png" for i in range(300))
    return Predictions(logits, labels, names, ("ant", "bee", "cat", "dog", "output 4"), "validation")


@pytest.mark.slow
def test_a_run_ends_with_pictures_and_trains_alike_without_them(tiny_config, tiny_arrays, tmp_path, capsys):
    logging = c.Logging(tensorboard=False)
    drawn = train(tiny_config(epochs=1, logging=logging), tmp_path / "drawn", arrays=tiny_arrays)
    assert "weakest classes  validation images: " in capsys.readouterr().out
    silent = Console(silent=True)
    plain = train(tiny_config(epochs=1), tmp_path / "plain", arrays=tiny_arrays, console=silent)
    assert {file.name for file in (tmp_path / "drawn").iterdir()} >= FILES
    assert not {file.name for file in (tmp_path / "plain").iterdir()} & FILES
    assert [record["train"] for record in drawn["history"]] == [record["train"] for record in plain["history"]]
    assert (drawn["test"], drawn["validation"]) == (plain["test"], plain["validation"])
    for split in ("validation", "test"):
        made = keep.load(keep.path_of(tmp_path / "drawn", split))
        assert made.right.mean() == pytest.approx(drawn[split]["top1"])
    with Image.open(tmp_path / "drawn" / "mistakes.png") as picture:
        assert picture.width > 500


def test_a_picture_that_fails_costs_nothing_else(predictions, tmp_path):
    class Gone(_Gray):
        def read(self, indices):
            raise UserError("7.png is gone")

    told: list[str] = []
    experiment = SimpleNamespace(dataset=SimpleNamespace(validation=Gone()))
    run = Mock(
        spec=Run,
        predictions={"validation": predictions},
        thresholds=None,
        experiment=experiment,
        workdir=tmp_path,
        config=SimpleNamespace(name="run"),
        tell=told.append,
    )
    closing.write(run)
    assert "7.png is gone" in told[0]
    assert {file.name for file in tmp_path.iterdir()} == FILES - {"mistakes.png", "predictions_test.npz"}


def test_rows_of_classes_equal_sklearns_and_scipys(predictions):
    rows = per_class.rows(predictions)
    precision, recall, f1, images = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=range(5), zero_division=np.nan
    )
    np.testing.assert_array_equal([row.images for row in rows], images)
    np.testing.assert_allclose([row.recall for row in rows], recall)
    np.testing.assert_allclose([row.precision for row in rows], precision)
    np.testing.assert_allclose([row.f1 for row in rows][:3], f1[:3])
    for row in rows[:3]:
        expected = binomtest(row.right, row.images).proportion_ci(method="wilson")
        assert (row.recall_low, row.recall_high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert [row.label for row in per_class.weakest(rows)] == np.argsort(recall[:3]).tolist()


def test_the_worst_mistakes_come_first_with_their_file(predictions):
    rows = mistakes.worst(predictions, 10)
    own = predictions.probabilities[np.arange(300), predictions.labels]
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    assert rows.tolist() == wrong[np.argsort(own[wrong])][:10].tolist()


def test_small_images_are_enlarged(predictions):
    """24 cells of 8×8 gray pixels, 96 pixels wide and high."""
    sheet = np.asarray(mistakes.sheet(predictions, _Gray(), title="run"))
    assert (sheet == 130).all(-1).sum() >= 24 * 96 * 96
    nothing_wrong = Predictions(
        np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32), ("a",) * 3, ("x",) * 3, "test"
    )
    assert mistakes.sheet(nothing_wrong, _Gray(), title="run").height < 40


def test_of_many_classes_the_most_confused_are_drawn(tmp_path):
    counts = np.diag(np.full(150, 9))
    counts[3, 140], counts[140, 3], counts[70, 71], counts[5, 6] = 2, 3, 4, 1
    np.testing.assert_array_equal(confusion.most_confused(counts, 4), [3, 70, 71, 140])
    np.testing.assert_array_equal(confusion.most_confused(counts, 40), [3, 5, 6, 70, 71, 140])
    confusion.plot(counts, [f"class {i}" for i in range(150)], tmp_path / "part.png", title="run")
    confusion.plot(np.diag(np.full(150, 9)), [str(i) for i in range(150)], tmp_path / "right.png", title="run")
    with Image.open(tmp_path / "part.png") as part, Image.open(tmp_path / "right.png") as right:
        assert part.width < 1200 and right.width < 1200


@pytest.mark.parametrize("others", [0, 9])  # outputs beyond the classes
@pytest.mark.parametrize("classes", [3, 150])
def test_the_picture_of_predictions_is_that_of_their_matrix(classes, others, tmp_path):
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, classes, 900), rng.integers(0, classes + others, 900)
    predicted[::2] = labels[::2]
    names = [f"class {i}" for i in range(classes)]
    confusion.plot_predictions(labels.astype(np.int32), predicted, names, tmp_path / "pairs.png", title="run")
    confusion.plot(confusion.matrix(labels, predicted, classes), names, tmp_path / "matrix.png", title="run")
    assert (tmp_path / "pairs.png").read_bytes() == (tmp_path / "matrix.png").read_bytes()


def test_the_table_of_a_class_without_images_has_empty_cells(predictions, tmp_path):
    from imgcls_jax.report import best_epoch

    best_epoch.write_table(per_class.rows(predictions), tmp_path / "per_class.csv")
    with open(tmp_path / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["class_name"] == "dog" and rows[3]["recall"] == rows[3]["recall_low"] == ""
    assert float(rows[0]["recall"]) == pytest.approx(int(rows[0]["right"]) / int(rows[0]["images"]), abs=1e-6)


def test_confusions_of_many_classes_against_the_whole_matrix(monkeypatch):
    """Only the pairs that occur are counted: the matrix of 10,000 classes takes 800 MB."""
    rng = np.random.default_rng(0)
    labels, guesses = rng.integers(0, 60, (2, 2000))
    logits = rng.normal(size=(2000, 60)).astype(np.float32)
    logits[np.arange(2000), np.where(rng.random(2000) < 0.5, labels, guesses % 7)] += 9
    made = Predictions(logits, labels.astype(np.int32), ("a",) * 2000, tuple(map(str, range(60))), "test")
    counts = confusion_matrix(labels, made.predicted, labels=range(60))
    wrong = counts * ~np.eye(60, dtype=bool)
    rows = per_class.rows(made)
    assert [row.most_confused_with for row in rows] == [str(other) for other in wrong.argmax(1)]
    assert [row.confused_images for row in rows] == wrong.max(1).tolist()
    assert [row.predicted for row in rows] == counts.sum(0).tolist()
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    pairs = [(*divmod(place, 60), int(wrong.flat[place])) for place in order.tolist()]
    assert scores.most_confused(counts) == pairs

    monkeypatch.setattr(keep, "_PART", 600)  # ten images at a time
    own = made.probabilities[np.arange(2000), labels]
    assert made.own_probabilities.tolist() == own.tolist()
    some = made.take(np.array([5, 3]))
    np.testing.assert_array_equal(some.probabilities, made.probabilities[[5, 3]])
    assert some.labels.tolist() == labels[[5, 3]].tolist()
