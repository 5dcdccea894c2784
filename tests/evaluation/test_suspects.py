"""Images to look at: against cleanlab, on labels that were changed on purpose, and on copied images."""

import csv

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from imgcls_jax.cli import suspects as command
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.evaluation import suspects
from imgcls_jax.evaluation.predictions import Predictions


def made(seed: int, *, images: int = 600, classes: int = 5, changed: int = 40) -> tuple[Predictions, np.ndarray]:
    """Predictions of a network that is mostly right, and the rows whose label is not the true one; the last class has
    no image."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - 1, images)
    logits = rng.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), truth] += 3
    labels, rows = truth.copy(), rng.choice(images, changed, replace=False)
    labels[rows] = (labels[rows] + 1) % (classes - 1)
    names = tuple(f"{row}.png" for row in range(images))
    return Predictions(logits, labels.astype(np.int32), names, tuple("abcde"[:classes]), "validation"), rows


@pytest.mark.parametrize("seed", range(4))
def test_candidates_are_cleanlabs(seed):
    predictions, changed = made(seed)
    theirs = find_label_issues(
        predictions.labels,
        predictions.probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    ours = [int(suspect.name.removesuffix(".png")) for suspect in suspects.wrong_labels(predictions)]
    assert ours == theirs.tolist()
    found = set(ours) & set(changed.tolist())
    assert len(found) / len(ours) > 5 * len(changed) / len(predictions)  # far more than among all images


def test_top_losses_are_the_greatest(tmp_path):
    predictions, _ = made(0)
    own = predictions.probabilities[np.arange(len(predictions)), predictions.labels]
    found = suspects.top_losses(predictions, 7)
    assert [suspect.name for suspect in found] == [f"{row}.png" for row in np.argsort(own)[:7]]
    assert found[0].probability == pytest.approx(own.min())


def test_the_command(finished_run, capsys, tmp_path):
    workdir, _, arrays = finished_run
    with pytest.raises(UserError, match="has no predictions: `imgcls evaluate"):
        command.main(["--workdir", str(workdir)])
    predictions, _ = made(1)
    keep.save(predictions, keep.path_of(workdir, "validation"))
    images = {name: array.copy() for name, array in arrays.items()}
    images["x_test"][3] = images["x_train"][5]
    np.savez(workdir.parent / "images.npz", **images, label_names=np.array(["red", "green", "blue"]))
    table = tmp_path / "suspects.csv"
    command.main(["--workdir", str(workdir), "--duplicates", "--top", "5", "--csv", str(table)])
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["reason"] == "loss" for row in rows) == 5
    assert sum(row["reason"] == "label" for row in rows) == len(suspects.wrong_labels(predictions))
    (copy,) = (row for row in rows if row["reason"] == "exact duplicate")
    assert copy["split"] == "test" and copy["duplicate_of"].startswith("train:")
    assert "duplicates: 1" in capsys.readouterr().out
