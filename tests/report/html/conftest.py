"""A small run whose class names are as bad as names can be, and the page on it."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.record.json_files import write_json
from imgcls_jax.report.html import page
from imgcls_jax.training.loop import train

NAMES = ("red", "</script><b>bold", "blue & \"x\" 'y' {{ 7 * 6 }}")


@pytest.fixture(scope="session")
def run(tiny_config, tiny_arrays, tmp_path_factory):
    """(Work directory, result) of a run with everything that a page may show."""
    folder = tmp_path_factory.mktemp("page")
    arrays = dict(tiny_arrays)
    arrays["y_test"] = arrays["y_test"].copy()
    arrays["y_test"][:4] = (arrays["y_test"][:4] + 1) % 3  # so that something is wrong
    arrays["x_test"] = arrays["x_test"].copy()
    arrays["x_test"][0] = arrays["x_train"][0]  # a duplicate, across splits
    np.savez(folder / "images.npz", **arrays, label_names=np.array(NAMES))
    config = tiny_config(
        data=dataclasses.replace(tiny_config().data, source=c.Arrays(str(folder / "images.npz"))),
        augment=(c.HorizontalFlip(from_epoch=1),),
        epochs=3,
    )
    workdir = folder / "run"
    result = train(config, workdir)
    for name, made in Classifier.load(workdir).evaluate_images()[1].items():
        keep.save(made, keep.path_of(workdir, name))
    calibration.save(calibration.fit(keep.load(keep.path_of(workdir, "validation"))), workdir)
    accuracy = {"accuracy": [0.9, 0.8, 0.7, 0.6, 0.5], "mean": 0.7}
    write_json(
        workdir / "corruptions.json",
        {"source": "made up", "images": 9, "of": 27, "clean_accuracy": 0.95, "mean_accuracy": 0.7}
        | {"corruptions": {"gaussian_noise": accuracy, "frost": accuracy | {"remark": "not comparable"}}},
    )
    return workdir, result


@pytest.fixture(scope="session")
def written(run, tmp_path_factory):
    """The file of the page on the run."""
    path = tmp_path_factory.mktemp("written") / "report.html"
    page.write([run[0]], path)
    return path
