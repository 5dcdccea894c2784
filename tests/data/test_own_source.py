"""A source that a user defines in a config file: strict, listed, saved, restored, cached, split and resumed."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from test_loop import assert_same, final_params

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.config import io, registry
from imgcls_jax.errors import UserError
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.loop import train

CONFIG = '''
import dataclasses
import os
import zipfile

from imgcls_jax import config as c
from imgcls_jax.data import Splits

reads_left = int(os.environ.get("READS_LEFT", "1000000"))


class Zipped(c.Source):
    """Image files in a zip archive, in one folder per class."""

    path: str
    """The archive."""
    reverse: bool = False
    """List the images from the last to the first."""

    def open(self, arrays=None, on_progress=None):
        with zipfile.ZipFile(self.path) as archive:
            names = sorted(archive.namelist(), reverse=self.reverse)
            pairs = [(archive.read(name), name.partition("/")[0]) for name in names]
        splits = Splits.from_pairs(f"the archive {self.path}", pairs)

        def read(indices):
            global reads_left
            reads_left -= 1
            if reads_left < 0:
                os._exit(9)  # as if the machine had failed
            return splits.train.read(indices)

        return dataclasses.replace(splits, train=dataclasses.replace(splits.train, read=read))


def get_config(variant=""):
    return c.Config(
        name="zipped",
        data=c.Data(
            source=Zipped("IMAGES"), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3,
            validation_share=0.25, cache_dir="CACHE", feed="streamed",
        ),
        augment=(c.HorizontalFlip(),),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.05, shape=c.Constant())),
        batch_size=16, epochs=2, precision="fp32", seed=0, save_every_steps=1,
        mesh=c.Mesh(devices=1), logging=c.Logging(tensorboard=False),
    )
'''


def write_archive(path, seed=0):
    from PIL import Image

    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(80):
            with archive.open(f"{('egg', 'ham')[i % 2]}/{i}.png", "w") as file:
                Image.fromarray(rng.integers(0, 256, (9, 10, 3), np.uint8)).save(file, "PNG")


@pytest.fixture
def zipped(tmp_path):
    """The config file; nothing of it stays behind."""
    write_archive(tmp_path / "images.zip")
    file = tmp_path / "zipped.py"
    file.write_text(CONFIG.replace("IMAGES", str(tmp_path / "images.zip")).replace("CACHE", str(tmp_path / "cache")))
    path = list(sys.path)
    yield file
    sys.path[:] = path
    forget()


def forget():
    sys.modules.pop("imgcls_config_zipped", None)
    for kind in [kind for kind in c.Source.registered if kind.startswith("imgcls_config_zipped:")]:
        del c.Source.registered[kind]


def test_saved_and_restored(zipped, tmp_path):
    config = io.load(str(zipped))
    document = io.document(config)
    assert document["config"]["data"]["source"] == {
        "kind": "imgcls_config_zipped:Zipped",
        "path": str(tmp_path / "images.zip"),
        "reverse": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    forget()  # as a process that never saw the file
    restored = io.restore(tmp_path / "config.json")
    assert io.document(restored) == document
    assert data.load(restored.data).split_hash == data.load(config.data).split_hash


def test_strict(zipped):
    with pytest.raises(UserError, match=r"source has no setting 'revers'.*did you mean .?reverse"):
        io.load(str(zipped), ["data.source.revers=True"])
    with pytest.raises(UserError, match=r"source.reverse must be true or false, not 3"):
        io.load(str(zipped), ["data.source.reverse=3"])


def test_listed(zipped):
    config = io.load(str(zipped))
    assert c.Source.kinds()["imgcls_config_zipped:Zipped"] is type(config.data.source)
    assert registry.foreign_modules(config) == {"imgcls_config_zipped": str(zipped)}


def test_held_out_and_cached_by_its_fingerprint(zipped, tmp_path):
    labels = []

    def load(*overrides):
        labels.clear()
        return data.load(io.load(str(zipped), overrides).data, on_progress=lambda label, *_: labels.append(label))

    first = load()
    assert [(split.name, split.class_counts(2).tolist()) for split in first.splits] == [
        ("train", [30, 30]),
        ("validation", [10, 10]),
    ]
    assert set(first.train.ids).isdisjoint(first.validation.ids)
    assert set(labels) == {"decoding the train images"}
    again = load("data.validation_share=0.5")
    assert labels == []
    assert [len(split) for split in again.splits] == [40, 40]
    assert load("data.source.reverse=True") and labels
    np.testing.assert_array_equal(load().train.read_all(), first.train.read_all())
    write_archive(tmp_path / "images.zip", seed=1)
    assert (load().train.read_all() != first.train.read_all()).any() and labels


@pytest.mark.slow
def test_a_run_that_died_is_resumed_bit_for_bit(zipped, tmp_path):
    overrides = ["data.cache_gib=0.0"]  # every batch is read from the source
    config = io.load(str(zipped), overrides)
    whole = train(config, tmp_path / "whole")

    program = """
import sys
from imgcls_jax.xla import runtime
runtime.setup()
from imgcls_jax.config import io
from imgcls_jax.training.loop import train
train(io.load(sys.argv[1], [sys.argv[2]]), sys.argv[3])
"""
    # One read of all images, one to compile, three batches and two of validation per epoch: it dies in the second.
    died = subprocess.run(
        [sys.executable, "-c", program, str(zipped), *overrides, str(tmp_path / "resumed")],
        env=os.environ | {"READS_LEFT": "9"},
        stdout=subprocess.DEVNULL,
    )
    assert died.returncode == 9
    assert Checkpoints(tmp_path / "resumed" / "checkpoints").latest() in (1, 2, 3, 4)
    resumed = train(config, tmp_path / "resumed")
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "resumed"))
    assert resumed["validation"] == whole["validation"]
