"""The example of a data source, run as a script runs it."""

import importlib.util
import json
import sys

import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.config import io


@pytest.fixture
def example(examples, monkeypatch, tmp_path):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("own_source", examples / "own_source.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    for kind in [kind for kind in c.Source.registered if kind.endswith(":PixelTable")]:
        del c.Source.registered[kind]


@pytest.mark.slow
def test_it_trains_and_its_run_can_be_restored(example, tmp_path):
    result = example.main(tmp_path)
    assert result["test"]["count"] == 359
    assert result["test"]["top1"] > 0.85
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["data"]["source"]["kind"] == "imgcls_config_own_source:PixelTable"
    dataset = data.load(io.restore(tmp_path / "run" / "config.json").data)
    assert dataset.class_names == tuple(sorted(dataset.class_names)) and "seven" in dataset.class_names


def test_its_images_are_those_of_scikit_learn(example, tmp_path):
    from sklearn.datasets import load_digits

    example.write_table(tmp_path / "digits.csv")
    splits = example.PixelTable(str(tmp_path / "digits.csv"), white=16).open()
    digits = load_digits()
    assert (splits.train.pixels[..., 0] == (digits.images * 255 / 16).round()).all()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert [splits.class_names[label] for label in splits.train.labels] == [names[label] for label in digits.target]


def test_a_missing_table_is_one_sentence(example):
    assert example.PixelTable("nowhere.csv").missing() == "data.source.path: there is no file nowhere.csv"
