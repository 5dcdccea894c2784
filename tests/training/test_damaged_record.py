"""Every file of a run, damaged in every way: made anew where the run goes on, one sentence where it is only read."""

import json
import shutil

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference.restore import of_run
from imgcls_jax.report import record
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.loop import train

FILES = ("config.json", "environment.json", "split.npz", "metrics.jsonl", "result.json", "parameters.txt")
DAMAGES = {
    "cut": lambda old: old[: len(old) // 2],
    "empty": lambda old: b"",
    "no UTF-8": lambda old: b"\xff\xfe\x80" + old,
    "zeros": lambda old: bytes(len(old)),
    "a list": lambda old: b"[1, 2]\n",
    "a number": lambda old: b"5\n",
    "null": lambda old: b"null\n",
    "an object": lambda old: b'{"schema": 1, "kind": "epoch", "config": {}, "imgcls_jax": 3, "modules": []}\n',
    "odd values": lambda old: odd(old),
    "deep": lambda old: b"[" * 100_000,
}


def odd(old):
    """The same keys, with a text for every value below the first two levels."""
    try:
        document = json.loads(old.split(b"\n")[0] if old.startswith(b'{"') else old)
    except ValueError:
        return b"\x00"
    if isinstance(document, dict):
        document = {key: value if key in ("schema", "kind") else {"odd": ["x"]} for key, value in document.items()}
    return json.dumps(document).encode() + b"\n"


@pytest.fixture
def trained(tiny_config, tiny_arrays, tmp_path_factory):
    """The folder of a finished run of one epoch, trained once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "damaged_record"
    if not (folder / "result.json").exists():
        train(tiny_config(epochs=1), folder, arrays=tiny_arrays)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_reading_is_right_or_one_sentence(name, trained, tmp_path):
    for kind, damage in DAMAGES.items():
        workdir = shutil.copytree(trained, tmp_path / kind)
        (workdir / name).write_bytes(damage((workdir / name).read_bytes()))
        for read in (of_run, record.read):
            if text := mistake(read, workdir):
                assert name in text or "has no finished epoch" in text, (kind, text)
                assert "\n" not in text, (kind, text)
                assert name in ("config.json", "metrics.jsonl", "result.json"), "nobody reads the others"


def mistake(read, workdir):
    """What a user is told; nothing else may be raised."""
    try:
        read(workdir)
    except UserError as error:
        return str(error)
    return ""


class Listener(Callback):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def on_message(self, run, text):
        self.said.append(text)

    def on_end(self, run, result):
        self.said += run.experiment.notes + list(run.experiment.dataset.notes)


@pytest.mark.parametrize("name", FILES)
def test_going_on_makes_it_anew(name, trained, tiny_config, tiny_arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("imgcls_jax.training.loop._test", lambda run: json.loads((trained / "result.json").read_text()))
    for kind in ("cut", "empty", "no UTF-8", "a number"):
        workdir = shutil.copytree(trained, tmp_path / kind)
        (workdir / name).write_bytes(DAMAGES[kind]((workdir / name).read_bytes()))
        listener = Listener()
        train(tiny_config(epochs=1), workdir, arrays=tiny_arrays, callbacks=[listener])
        if name == "environment.json":
            assert len(json.loads((workdir / name).read_text())) >= 1
        elif name == "split.npz":
            with np.load(workdir / name) as again, np.load(trained / name) as first:
                assert {key: again[key].tolist() for key in again} == {key: first[key].tolist() for key in first}
        else:
            assert (workdir / name).read_bytes() == (trained / name).read_bytes(), kind
        # A last line without its end is one that was being written.
        if name in ("config.json", "split.npz", "environment.json") or kind in ("a number", "no UTF-8"):
            told = any(name in text and "is damaged" in text for text in listener.said)
            assert told or name in ("result.json", "parameters.txt"), "written whatever was there"
        record.read(workdir)


def test_other_images_are_refused_though_the_record_of_the_split_is_lost(trained, tiny_config, tiny_arrays, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    (workdir / "split.npz").write_bytes(b"")
    other = tiny_arrays | {"y_test": tiny_arrays["y_test"][::-1].copy()}
    with pytest.raises(UserError, match="the data have changed since the run in .* began"):
        train(tiny_config(epochs=1), workdir, arrays=other)
    with pytest.raises(UserError, match="the data have changed since the run in .* began"):
        train(tiny_config(epochs=1), workdir, arrays=other)


def test_another_config_is_told_though_config_json_is_damaged(trained, tiny_config, tiny_arrays, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    (workdir / "config.json").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"another config(.|\n)*seed: 0 → 1"):
        train(tiny_config(epochs=1, seed=1), workdir, arrays=tiny_arrays)
    assert of_run(workdir).config == tiny_config(epochs=1, callbacks=(), best=c.Best())
