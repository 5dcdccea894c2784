"""The submissions of two competitions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.cli import predict
from imgcls_jax.errors import UserError
from reproduction import submission

SMALL = dict(distortions=2, severities=5, images=3)


@pytest.fixture
def labels():
    return np.arange(30).reshape(2, 5, 3)


def test_rows_are_those_of_the_arrays(labels, tmp_path):
    file = tmp_path / "new" / "submission_ood.csv"
    submission.write_ood(file, labels)
    lines = file.read_bytes().decode().split("\n")
    assert lines[:5] == [
        "id,label",
        "distortion00_1_0,0",
        "distortion00_1_1,1",
        "distortion00_1_2,2",
        "distortion00_2_0,3",
    ]
    assert lines[-2:] == ["distortion01_5_2,29", ""]
    assert submission.check_ood(file, classes=30, **SMALL) == 30


@pytest.mark.slow
def test_the_whole_has_950_000_rows(tmp_path):
    file = tmp_path / "submission_ood.csv"
    labels = np.zeros((19, 5, 10_000), np.int64)
    labels[7, 2, 421] = 99
    submission.write_ood(file, labels)
    assert submission.check_ood(file, classes=100) == 950_000
    assert "\ndistortion07_3_421,99\n" in file.read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id,label", "id;label", "line 1: the header must be id,label, not id;label"),
        ("distortion00_2_0,3", "distortion00_02_0,3", "line 5: the id must be distortion00_2_0, not distortion00_02_0"),
        ("distortion00_1_1,1\n", "", "line 3: the id must be distortion00_1_1, not distortion00_1_2"),
        ("distortion01_5_2,29\n", "", "line 31: the file ends, but the row of distortion01_5_2 is missing"),
        ("_5_2,29\n", "_5_2,29\ndistortion02_1_0,1\n", "line 32: distortion02_1_0,1 is one row too many"),
        ("_1_1,1\n", "_1_1,cat\n", "the label of distortion00_1_1 must be a class number from 0 to 29, not 'cat'"),
        ("_1_1,1\n", "_1_1,30\n", "line 3: the label of distortion00_1_1 must be a class number from 0 to 29"),
        ("_1_1,1\n", "_1_1,-1\n", "not '-1'"),
        ("_1_1,1\n", "_1_1,1.0\n", "not '1.0'"),
        ("_1_1,1\n", "_1_1,\n", "not ''"),
        ("_1_1,1\n", "_1_1,1,1\n", "line 3: a row is an id and a class number, not 'distortion00_1_1,1,1'"),
        ("_1_1,1\n", "_1_1,1\n\n", "line 4: a row is an id and a class number, not ''"),
    ],
)
def test_the_first_wrong_row_is_named(old, new, message, labels, tmp_path):
    file = tmp_path / "submission_ood.csv"
    submission.write_ood(file, labels)
    sound = file.read_text()
    assert sound.count(old) >= 1
    file.write_text(sound.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        submission.check_ood(file, classes=30, **SMALL)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_sketch(tmp_path):
    files = [Path("mistery_category/b.x.jpeg"), Path("mistery_category/a.jpeg")]
    file = tmp_path / "sketch.csv"
    submission.write_sketch(file, files, np.array([7, 499]))
    assert file.read_text() == "Id,Category\na,499\nb.x,7\n"
    assert submission.check_sketch(file, files, classes=500) == 2
    with pytest.raises(UserError, match="line 4: the file ends, but the row of c is missing"):
        submission.check_sketch(file, [*files, Path("c.jpeg")], classes=500)
    with pytest.raises(UserError, match="line 2: the label of a must be a class number from 0 to 498"):
        submission.check_sketch(file, files, classes=499)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.jpeg", "b.jpg"], "b.jpg is not named NAME.jpeg"),
        (["x/a.jpeg", "y/a.jpeg"], "two images are called a.jpeg"),
    ],
)
def test_sketch_ids(files, message):
    with pytest.raises(UserError, match=message):
        submission.sketch_ids(map(Path, files))


@pytest.mark.parametrize("names", [["fog"], ["distortion01"], ["distortion00", "distortion02"]])
def test_a_gap_would_shift_the_ids(names):
    submission.check_names(["distortion00", "distortion01"], Path("C"))
    with pytest.raises(UserError, match=f"without a gap, but C holds {', '.join(names)}"):
        submission.check_names(names, Path("C"))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        submission.check_ood(tmp_path / "none.csv", classes=2)


def test_the_commands(finished_run, tmp_path, capsys):
    """Of one run: its predictions of corrupted arrays, and of image files."""
    workdir, _, arrays = finished_run
    test = arrays["x_test"][:4]
    (tmp_path / "C").mkdir()
    for name in ("distortion00", "distortion01"):
        np.save(tmp_path / "C" / f"{name}.npy", np.tile(test, (5, 1, 1, 1)))
    ood = tmp_path / "ood.csv"
    submission.main(["ood", "--workdir", str(workdir), "--arrays", str(tmp_path / "C"), "--out", str(ood)])
    assert "ood.csv: 40 rows, but a whole submission has 950,000" in capsys.readouterr().out
    labels = np.loadtxt(ood, delimiter=",", skiprows=1, usecols=1, dtype=int).reshape(10, 4)

    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(test):
        Image.fromarray(image).save(folder / f"{i}.jpeg", format="PNG")  # Pillow goes by the content
    predictions, sketch = tmp_path / "predictions.csv", tmp_path / "sketch.csv"
    predict.main(["--workdir", str(workdir), str(folder), "--csv", str(predictions)])
    command = ["sketch", "--predictions", str(predictions), "--images", str(folder), "--out", str(sketch)]
    submission.main(command)
    assert sketch.read_text().split() == ["Id,Category", *(f"{i},{label}" for i, label in enumerate(labels[0]))]
    assert (labels == labels[0]).all(), "every severity holds the same images"

    (folder / "4.jpeg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"has no prediction of .*4\.jpeg, but a submission needs every image"):
        submission.main(command)


def test_predictions_of_another_kind(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="x.csv has no columns file and label: write it with `imgcls predict"):
        submission.read_predictions(tmp_path / "x.csv", [])
    with pytest.raises(UserError, match="there is no file"):
        submission.read_predictions(tmp_path / "y.csv", [])
