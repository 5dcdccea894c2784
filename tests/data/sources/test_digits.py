"""The built-in set, against scikit-learn."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.data import digits
from imgcls_jax.data.decode import decode
from imgcls_jax.data.sources.tfds import TFDS


def test_every_digit_is_in_one_split_with_its_label(digits_dir):
    from sklearn.datasets import load_digits

    reference = load_digits()
    expected = sorted(
        ((image * 255 / 16).round().astype(np.uint8).tobytes(), int(label))
        for image, label in zip(reference.images, reference.target, strict=True)
    )
    source = TFDS("imgcls_digits", "train", None, "test", data_dir=str(digits_dir)).open()
    found = []
    for split in (source.train, source.test):
        images = [np.asarray(decode(content, 1).image) for content in split.read(range(len(split)))]
        found += [(image.tobytes(), int(label)) for image, label in zip(images, split.labels, strict=True)]
    assert sorted(found) == expected
    assert source.class_names == tuple("0123456789")


def test_splits_are_stratified_and_fixed(digits_dir):
    source = TFDS("imgcls_digits", "train", None, "test", data_dir=str(digits_dir)).open()
    assert (len(source.train), len(source.test)) == (1438, 359)
    counts = np.bincount(source.test.labels)
    assert (np.abs(counts - 0.2 * (counts + np.bincount(source.train.labels))) <= 0.5).all()
    # Committed, because published accuracies refer to these very test images.
    images = sorted(np.asarray(decode(content, 1).image).tobytes() for content in source.test.read(range(359)))
    assert hashlib.sha256(b"".join(images)).hexdigest()[:12] == "0a8c0963cbbc"


def test_preparing_again_changes_nothing(digits_dir):
    before = {path: path.stat().st_mtime_ns for path in digits_dir.rglob("*.array_record*")}
    digits.prepare(digits_dir)
    assert {path: path.stat().st_mtime_ns for path in digits_dir.rglob("*.array_record*")} == before != {}


@pytest.mark.slow
def test_concurrent_first_use_without_tensorflow(tmp_path: Path):
    """Two processes prepare at once; both read the whole set, and neither imports TensorFlow or JAX."""
    program = """
import sys
from pathlib import Path
from imgcls_jax import data
from imgcls_jax.config.data import Canvas, Data
from imgcls_jax.data.sources.tfds import TFDS
folder = Path(sys.argv[1])
source = TFDS("imgcls_digits", "train", None, "test", data_dir=str(folder / "tfds"))
config = Data(source, Canvas(8, 8, 1), (8, 8), (0.5,), (0.5,), cache_dir=str(folder / "cache"))
dataset = data.load(config, folder / "run")
print(len(dataset.train), len(dataset.test), dataset.split_hash)
print([name for name in ("jax", "tensorflow", "torch", "grain") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    lines = {out for out, _ in outputs}
    assert len(lines) == 1
    counts, modules = lines.pop().splitlines()
    assert counts.startswith("1438 359 ")
    assert modules == "[]"
