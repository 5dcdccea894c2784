"""A run with a damaged checkpoint goes on from the one before it, and ends with the same bits."""

import json
import shutil

import numpy as np
import pytest
from test_loop import assert_same, final_params

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference.restore import of_run
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.loop import train
from imgcls_jax.tune import lr


class Listener(Callback):
    def __init__(self):
        self.said = []

    def on_message(self, run, text):
        self.said.append(text)


@pytest.fixture
def trained(tiny_config, tiny_arrays, tmp_path_factory):
    """The folder of a run of three epochs, of four steps each, trained once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "damaged_checkpoint"
    if not folder.exists():
        train(tiny_config(epochs=3, best=c.Best(metric="top1")), folder, arrays=tiny_arrays)
    return folder


def resume(workdir, tiny_config, tiny_arrays):
    listener = Listener()
    train(tiny_config(epochs=3, best=c.Best(metric="top1")), workdir, arrays=tiny_arrays, callbacks=[listener])
    return listener.said


def corrupt(step_folder):
    for path in (step_folder / "state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes(content)


def figures(workdir):
    result = json.loads((workdir / "result.json").read_text())
    return result["test"], [(epoch["train"], epoch["validation"]) for epoch in result["history"]]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [corrupt, shutil.rmtree, lambda folder: shutil.rmtree(folder / "state")])
def test_the_run_ends_with_the_same_bits(damage, trained, tiny_config, tiny_arrays, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    damage(workdir / "checkpoints" / "12")
    if (workdir / "checkpoints" / "12").exists():
        notes = of_run(workdir).notes
        assert "12 is damaged" in notes[0] and "the one before it is used" in notes[0]
    said = resume(workdir, tiny_config, tiny_arrays)
    assert_same(final_params(workdir), final_params(trained))
    assert figures(workdir) == figures(trained)
    assert [text for text in said if "12 is damaged" in text] or damage is shutil.rmtree


def test_nothing_is_begun_anew_over_damage(trained, tiny_config, tiny_arrays, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    for folder in (workdir / "checkpoints").iterdir():
        corrupt(folder)
    for _ in range(2):  # they are set aside by the first
        with pytest.raises(UserError, match="no sound checkpoint is left in"):
            resume(workdir, tiny_config, tiny_arrays)
    with pytest.raises(UserError, match="has no checkpoint"):
        of_run(workdir)
    assert (workdir / "result.json").exists()


@pytest.mark.slow
def test_a_damaged_best_checkpoint_is_replaced_by_the_last(trained, tiny_config, tiny_arrays, tmp_path):
    workdir = tmp_path / "run"
    # Parameters that stay as they are: what changes are BatchNorm's statistics.
    changed = tiny_config(epochs=3, optim=c.Optim(c.SGD(), c.Schedule(peak=1e-12, shape=c.Constant())))
    first = train(changed, workdir, arrays=tiny_arrays)
    assert first["best_epoch"] < 2
    corrupt(workdir / "checkpoints" / str(4 * (first["best_epoch"] + 1)))
    assert "these are the parameters of step 12" in of_run(workdir).notes[0]
    listener = Listener()
    again = train(changed, workdir, arrays=tiny_arrays, callbacks=[listener])
    assert again["best_epoch"] == 2 and "in whose place the last one is tested" in listener.said[-1]
    assert np.isfinite(again["test"]["loss"])


@pytest.mark.slow
def test_a_range_test_starts_from_the_one_before(trained, tiny_config, tiny_arrays, tmp_path):
    losses, said = {}, []
    for name, damage in {"damaged": corrupt, "removed": shutil.rmtree}.items():
        workdir = tmp_path / name
        shutil.copytree(trained, workdir)
        damage(workdir / "checkpoints" / "12")
        config = tiny_config(epochs=3, best=c.Best(metric="top1"))
        losses[name] = lr.find(config, workdir=workdir, arrays=tiny_arrays, steps=30, tell=said.append).loss
    assert losses["damaged"] == losses["removed"]
    assert len(said) == 1
    assert "12 is damaged" in said[0]
