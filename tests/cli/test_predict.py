"""The tables of `imgcls predict`, and what `imgcls calibrate` makes of them."""

import csv
import errno
import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from imgcls_jax.cli import calibrate, predict
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.inference import Classifier


def test_calibrated_tables_of_every_format(finished_run, tmp_path, monkeypatch, capsys):
    workdir, _, arrays = finished_run
    with pytest.raises(UserError, match=r"no file .*predictions_validation\.npz: `imgcls evaluate"):
        calibrate.main(["--workdir", str(workdir)])
    images = tmp_path / "images"
    images.mkdir()
    for row, image in enumerate(arrays["x_test"][:4]):
        Image.fromarray(image).save(images / f"{row}.png")
    (images / "broken.png").write_text("no")
    command = ["--workdir", str(workdir), str(images / "[0-3].png")]
    for flag in (["--calibrated"], ["--unknown"], ["--sets", "0.9"]):
        with pytest.raises(UserError, match=r"not calibrated: `imgcls calibrate"):
            predict.main([*command, *flag])

    classifier = Classifier.load(workdir)
    for split, made in classifier.evaluate_images()[1].items():
        keep.save(made, keep.path_of(workdir, split))
    calibrate.main(["--workdir", str(workdir), "--known", "0.6"])
    assert "test: 27 images" in capsys.readouterr().out and (workdir / "reliability.png").exists()
    fitted = calibration.load(workdir)

    monkeypatch.setattr("sys.stdin", io.StringIO(f"{images}/broken.png\n{images}/0.png\n"))
    files = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "jsonl", "parquet")}
    written = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    asked = ["--sets", "0.9", "--unknown", "--probabilities", "--top", "2"]
    with pytest.raises(UserError, match="1 of 6 images cannot be read"):
        predict.main([*command, "-", *asked, *written])
    with open(files["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(images / name) for name in
        ("0.png", "1.png", "2.png", "3.png", "broken.png", "0.png")]  # fmt: skip
    assert rows[4]["status"].startswith("unreadable") and rows[4]["class"] == "" and lines[4]["p(red)"] is None
    assert lines[0] == lines[5]

    logits = classifier.logits(list(arrays["x_test"][:4])).astype(np.float64)
    shares = np.exp(logits / fitted.temperature)
    shares /= shares.sum(1, keepdims=True)
    inside, energy = fitted.sets(logits, 0.9), np.log(np.exp(logits).sum(1))
    names = np.array(classifier.class_names)
    for line, share, chosen, value in zip(lines[:4], shares, inside, energy, strict=True):
        assert [line[f"p({name})"] for name in names] == pytest.approx(share.tolist(), abs=1e-6)
        assert line["set"] == names[np.argsort(-share)][: chosen.sum()].tolist()
        assert line["class"] == ("unknown" if value < fitted.least_energy else names[share.argmax()])
        assert line["class_2"] == names[np.argsort(-share)[1]]
        assert line["energy"] == pytest.approx(value, abs=1e-5)
    assert parquet.read_table(files["parquet"]).to_pylist() == lines

    capsys.readouterr()
    predict.main([*command, "--threshold", "1"])
    assert all(line.startswith("unknown") for line in capsys.readouterr().out.splitlines())

    # A folder that cannot be listed is a row too, and a status other than 0.
    (images / "broken.png").unlink()
    (images / "closed").mkdir()
    scandir = os.scandir

    def listing(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr("imgcls_jax.data.files.os.scandir", listing)
    with pytest.raises(UserError, match="1 of 5 images cannot be read, all others are classified; .*closed"):
        predict.main(["--workdir", str(workdir), str(images), "--csv", str(files["csv"])])
    with open(files["csv"], newline="") as file:
        assert [row["status"][:10] for row in csv.DictReader(file)] == ["ok"] * 4 + ["unreadable"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "2"], "must be a probability from 0 to 1"),
        (["--top", "0"], "must be a whole number of at least 1"),
    ],
)
def test_mistakes(flags, message, tmp_path):
    with pytest.raises(UserError, match=message):
        predict.main(["--workdir", str(tmp_path), "x.png", *flags])
    with pytest.raises(UserError, match="must be a share below 1"):
        calibrate.main(["--workdir", str(tmp_path), "--known", "1"])
