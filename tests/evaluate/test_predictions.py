"""Predictions of a run: those of its own test, and from files."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import predict, predictions
from imgcls_jax.errors import UserError
from imgcls_jax.predictions import Predictor


def save(images, folder, names):
    folder.mkdir(parents=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image).save(folder / name, format="PNG")


def test_predictions_of_a_run(finished_run, tmp_path, capsys):
    """One run, several questions, because training takes its time."""
    workdir, result, arrays = finished_run
    test, labels = arrays["x_test"], arrays["y_test"]
    config, class_names = predictions.restore(workdir)
    assert class_names == ("red", "green", "blue")

    # The accuracy is that of the run's own test, to the image; 27 images are a batch of 16 and a padded one.
    predictor = Predictor(config, 3)
    assert (predictor.labels(test) == labels).mean() == pytest.approx(result["test"]["top1"])
    probabilities = predictor.probabilities(test)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    truth = probabilities[np.arange(27), labels]
    assert -np.log(truth).mean() == pytest.approx(result["test"]["loss"], rel=1e-4)

    # Views: the mean of the probabilities of an image and its mirror image.
    views = Predictor(dataclasses.replace(config, test_views="flip"), 3).probabilities(test)
    mirrored = predictor.probabilities(test[:, :, ::-1])
    np.testing.assert_allclose(views, (probabilities + mirrored) / 2, atol=1e-5)

    # The command, from files without labels, one of which is no image.
    names = [f"{i:02}.jpeg" for i in range(27)]  # PNG inside: Pillow goes by the content, and PNG loses nothing
    folder = tmp_path / "test_images" / "mistery_category"
    save(test, folder, names)
    submitted = tmp_path / "sketch.csv"
    predict.main(["--workdir", str(workdir), str(folder), "--submission", str(submitted)])
    with open(submitted) as file:
        rows = [(row["Id"], int(row["Category"])) for row in csv.DictReader(file)]
    assert rows == list(zip([name[:-5] for name in names], predictor.labels(test), strict=True))

    (folder / "05.jpeg").write_bytes(b"nothing")
    with pytest.raises(UserError, match="05.jpeg cannot be read .* but a submission needs every image"):
        predict.main(["--workdir", str(workdir), str(folder), "--submission", str(submitted)])
    capsys.readouterr()
    predict.main(["--workdir", str(workdir), str(folder / "06.jpeg"), str(folder), "--csv", str(tmp_path / "out.csv")])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 27
    assert f"unreadable: {folder / '05.jpeg'}: not an image in a format that Pillow reads" in printed
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows[:2]] == [str(folder / "06.jpeg"), str(folder / "00.jpeg")]
    assert len(rows) == 26
    assert rows[0]["class"] == class_names[int(rows[0]["label"])]
    assert float(rows[0]["probability"]) == pytest.approx(probabilities[6].max(), abs=1e-5)


def test_a_sigmoid_head_gives_two_probabilities():
    """Of a fixed logit; the model is not asked."""
    predictor = object.__new__(Predictor)
    predictor.logits = lambda canvases: np.array([[0.0], [np.log(3)], [-800.0]], np.float32)
    np.testing.assert_allclose(predictor.probabilities(None), [[0.5, 0.5], [0.25, 0.75], [1, 0]], atol=1e-6)
    np.testing.assert_array_equal(predictor.labels(None), [0, 1, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [folder / "no.png"], "there is no file or folder"),
        (lambda folder: [folder], "holds no images"),
    ],
)
def test_nothing_to_predict(make, message, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=message):
        predict.find(make(tmp_path))


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="is .* the work directory of a run"):
        predictions.restore(tmp_path)


def test_random_weights_are_refused(tiny_config):
    with pytest.raises(UserError, match="random weights predict nothing"):
        Predictor(tiny_config(), 3)
