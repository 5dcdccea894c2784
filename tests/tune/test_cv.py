"""Cross-validation: every image is held out once, and the mean is that of the folds' own records."""

import json

import numpy as np
import pytest
import scipy.stats

from imgcls_jax import config as c
from imgcls_jax.cli import suspects
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.tune import cv


@pytest.mark.slow
def test_folds_mean_and_interval(tiny_config, tiny_arrays, tmp_path, capsys):
    arrays = {name: array for name, array in tiny_arrays.items() if not name.endswith(("validation", "test"))}
    config = tiny_config(epochs=1, logging=c.Logging(tensorboard=False))
    document = cv.cross_validate(config, tmp_path / "cv", folds=2, arrays=arrays)
    made = keep.load(keep.path_of(tmp_path / "cv", "train"))
    held = []
    for k in range(2):
        epoch = json.loads((tmp_path / "cv" / f"fold{k}" / "metrics.jsonl").read_text().splitlines()[-1])
        assert document["folds"][str(k)]["top1"] == epoch["validation"]["top1"]
        with np.load(tmp_path / "cv" / f"fold{k}" / "split.npz") as split:
            held += split["validation"].tolist()
        parts = keep.load(keep.path_of(tmp_path / "cv" / f"fold{k}", "validation"))
        np.testing.assert_array_equal(made.logits[36 * k : 36 * (k + 1)], parts.logits)
        assert made.names[36 * k : 36 * (k + 1)] == parts.names
    assert sorted(held) == list(range(72)) and len(set(made.names)) == 72 and made.split == "train"
    suspects.main(["--workdir", str(tmp_path / "cv")])
    assert "probably wrong labels, train, out of fold" in capsys.readouterr().out
    scores = [fold["top1"] for fold in document["folds"].values()]
    interval = scipy.stats.t.interval(0.95, 1, np.mean(scores), scipy.stats.sem(scores))
    np.testing.assert_allclose((document["mean"], *document["interval_95"]), (np.mean(scores), *interval))
    assert "| 0 " in (tmp_path / "cv" / "cv.md").read_text()
    assert cv.cross_validate(config, tmp_path / "cv", folds=2, arrays=arrays) == document  # nothing is trained again


def test_data_that_cannot_be_divided_are_refused_before_any_training(tiny_config, tiny_arrays, tmp_path):
    with pytest.raises(UserError, match="has a validation split of its own"):
        cv.cross_validate(tiny_config(), tmp_path / "cv", folds=2, arrays=tiny_arrays)
    arrays = {name: array for name, array in tiny_arrays.items() if "validation" not in name}
    with pytest.raises(UserError, match="72 images cannot be divided into 1000 folds: take 72 at most"):
        cv.cross_validate(tiny_config(), tmp_path / "cv", folds=1000, arrays=arrays)
    assert not (tmp_path / "cv").exists()
