"""The report on two trained runs."""

import dataclasses
import json

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.inference import restore
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.record.documents import SCHEMA
from imgcls_jax.report import record, write
from imgcls_jax.training.loop import train


@pytest.fixture(scope="module")
def images(tmp_path_factory, tiny_arrays):
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, **tiny_arrays)
    return path


def trained(config, images, workdir):
    data = dataclasses.replace(config.data, source=c.Arrays(str(images)))
    return train(dataclasses.replace(config, data=data), workdir)


@pytest.mark.slow
def test_two_runs(tiny_config, tiny_arrays, images, tmp_path):
    frozen = c.Transfer(freeze=("convs.*",), allow_frozen_random=True)
    results = {
        "tiny": trained(tiny_config(epochs=4), images, tmp_path / "runs" / "a"),
        "frozen": trained(tiny_config(name="frozen", transfer=frozen), images, tmp_path / "runs" / "b"),
    }
    folders = [tmp_path / "runs" / "a", tmp_path / "runs" / "b"]
    for folder in folders:
        keep.save(Classifier.load(folder).evaluate_images()[1]["test"], keep.path_of(folder, "test"))
    path = write.report(folders, tmp_path / "out")
    text = path.read_text()
    assert "## Differences on the test images" in text
    assert "frozen minus tiny, 27 images" in text
    # 3×3×3×4 + 4 of the convolution, 2×4 of its BatchNorm; 4×4×4×3 + 3 of the output layer
    assert "315 |        315 |" in text
    assert "195 |        315 |" in text
    change = 100 * (results["frozen"]["test"]["top1"] - results["tiny"]["test"]["top1"])
    row = next(line for line in text.splitlines() if line.startswith("| accuracy "))
    assert float(row.split("|")[2].replace("%", "")) == pytest.approx(change, abs=0.01)
    assert "by McNemar's exact test" in text
    for label, result in results.items():
        for name in (f"kernels_{label}.png", f"confusion_{label}.png", f"confusion_{label}.csv"):
            assert (tmp_path / "out" / name).stat().st_size > 0
            assert name in text
        counts, class_names, split, _ = write.confusion_matrix(
            restore.of_run(tmp_path / "runs" / ("a" if label == "tiny" else "b"))
        )
        assert (split, class_names) == ("test", ("0", "1", "2"))
        np.testing.assert_array_equal(counts.sum(1), np.bincount(tiny_arrays["y_test"]))
        assert counts.trace() / 27 == pytest.approx(result["test"]["top1"])
    counts, _, split, _ = write.confusion_matrix(restore.of_run(tmp_path / "runs" / "a"), "validation")
    assert counts.trace() / 21 == pytest.approx(results["tiny"]["validation"]["top1"])
    assert split == "validation"

    images.rename(images.with_suffix(".away"))
    try:
        text = write.report([tmp_path / "runs" / "a"], tmp_path / "again").read_text()
    finally:
        images.with_suffix(".away").rename(images)
    assert f"No confusion matrix: there is no file {images}" in text


def unfinished(folder, config, epochs):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(record.files.document(config)))
    scores = {"top1": 0.5, "loss": 1.0}
    kind = {"schema": SCHEMA, "kind": "epoch"}
    kind |= {"step": 4, "learning_rate": 0.1, "evaluators": {}, "images_per_second": 1.0, "waited_for_data": 0.0}
    lines = [kind | {"epoch": i, "train": scores, "validation": scores, "seconds": 1.0} for i in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_labels_tell_runs_of_one_config_apart(tiny_config, tmp_path):
    folders = [unfinished(tmp_path / name / "seed_0", tiny_config(), 1) for name in ("x", "y")]
    assert [run.label for run in record.read_all(folders)] == ["x/seed_0", "y/seed_0"]
    assert [run.label for run in record.read_all(folders[:1])] == ["tiny"]
    with pytest.raises(UserError, match=r"^the work directory .*seed_0/../seed_0 is given twice$"):
        record.read_all([folders[0], folders[0] / ".." / "seed_0"])


def test_what_is_no_finished_epoch(tiny_config, tmp_path):
    with pytest.raises(UserError, match="has no finished epoch yet: train it first"):
        record.read(unfinished(tmp_path / "run", tiny_config(), 0))
    with pytest.raises(UserError, match="is .* the work directory of a run?"):
        record.read(tmp_path)
    with pytest.raises(UserError, match="has no checkpoint yet: train it first"):
        restore.of_run(tmp_path / "run")
