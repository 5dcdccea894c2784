"""Checkpoints of a run that goes on are not disturbed by who reads them."""

import dataclasses
import errno
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from test_loop import assert_same, final_params

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.cli import evaluate
from imgcls_jax.errors import UserError
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.loop import train


def test_only_the_runs_own_process_clears_away_unfinished_saves(tmp_path):
    writer = Checkpoints(tmp_path)
    writer.save(1, {"x": jnp.ones(3)}, {"best": 1})
    writer.wait()
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()

    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.latest() == 1
    assert reader.arrays(1)["x"].tolist() == [1.0, 1.0, 1.0]
    assert reader.run(1) == {"best": 1}
    reader.close()
    assert unfinished.exists()

    writer.close()
    resumed = Checkpoints(tmp_path)
    resumed.save(3, {"x": jnp.ones(3)}, {"best": 1})  # Clearing away goes on in the background until the first save.
    resumed.close()
    assert not unfinished.exists()


def test_training_waits_for_a_copy_alone(tmp_path, monkeypatch):
    """What is saved is what there was, although writing begins only after the state and the history have gone on."""
    begin, write = threading.Event(), ocp.CheckpointManager.save
    monkeypatch.setattr(
        ocp.CheckpointManager, "save", lambda *args, **kwargs: begin.wait(60) and write(*args, **kwargs)
    )
    writer = Checkpoints(tmp_path)
    state, history = {"host": np.zeros(3), "device": jnp.zeros(3)}, [{"loss": 1.0}]
    writer.save(1, state, {"best": 1, "history": history})  # would not return
    jax.jit(lambda x: x + 1, donate_argnums=0)(state["device"]).block_until_ready()
    state["host"] += 1
    history[0]["loss"] = 2.0
    assert not begin.is_set()
    begin.set()
    assert writer.latest() == 1
    assert {name: array.tolist() for name, array in writer.arrays(1).items()} == dict.fromkeys(state, [0.0] * 3)
    assert writer.run(1)["history"] == [{"loss": 1.0}]
    writer.close()


def test_a_save_that_fails_is_told_by_what_comes_next(tmp_path, monkeypatch):
    writer = Checkpoints(tmp_path)
    writer.save(1, {"x": jnp.ones(3)}, {"best": 1})
    writer.wait()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ocp.CheckpointManager, "save", full)
        writer.save(2, {"x": jnp.ones(3)}, {"best": 1})
        with pytest.raises(UserError, match="the disk is full; the checkpoints before it are whole"):
            writer.save(3, {"x": jnp.ones(3)}, {"best": 1})
    writer.save(3, {"x": jnp.full(3, 5.0)}, {"best": 1})
    assert writer.latest() == 3 and writer.arrays(1)["x"].tolist() == [1.0] * 3
    writer.close()


def test_reading_makes_no_folder(tmp_path):
    reader = Checkpoints(tmp_path / "none", read_only=True)
    assert reader.latest() is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["a[1]b", "[", "]a[", "a*", "?", "**", "[!a]"])
def test_a_path_is_no_pattern(name, tmp_path, caplog):
    """Orbax looks for the parts of a checkpoint by a pattern below its folder; `decoy` is what `a*` would match."""
    rng = np.random.default_rng(0)
    states = [{"x": jnp.asarray(rng.normal(size=(4, 3)))} for _ in range(2)]
    for parent, state in zip((tmp_path / "a_decoy", tmp_path / name), states, strict=True):
        writer = Checkpoints(parent / "run" / "checkpoints")
        writer.save(1, state, {"best": 1})
        writer.close()
    for parent, state in zip((tmp_path / "a_decoy", tmp_path / name), states, strict=True):
        reader = Checkpoints(parent / "run" / "checkpoints", read_only=True)
        np.testing.assert_array_equal(reader.arrays(1)["x"], state["x"])
        np.testing.assert_array_equal(reader.state(1, state)["x"], state["x"])
        reader.close()
    assert "Skipping merge" not in caplog.text


@pytest.mark.slow
def test_a_run_below_such_a_path_is_used_like_any_other(tiny_config, tiny_arrays, tmp_path, capsys):
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    config = tiny_config(epochs=1)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, source=c.Arrays(str(tmp_path / "images.npz")))
    )
    longer, workdir, plain = dataclasses.replace(config, epochs=2), tmp_path / "a[1]*?" / "run[2]", tmp_path / "plain"
    for place in (workdir, plain):
        for part in (config, longer):
            result = train(part, place)
    assert_same(final_params(workdir), final_params(plain))
    evaluate.main(["--workdir", str(workdir)])
    assert f"{100 * result['test']['top1']:.2f} %" in capsys.readouterr().out
    classifier = ic.Classifier.load(workdir)
    expected = ic.Classifier.load(plain).logits(list(tiny_arrays["x_test"][:4]))
    np.testing.assert_array_equal(classifier.logits(list(tiny_arrays["x_test"][:4])), expected)
    classifier.export(tmp_path / "a[1]*?" / "model.safetensors")
    assert ic.Classifier.load(tmp_path / "a[1]*?" / "model.safetensors").class_names == classifier.class_names
    fine = dataclasses.replace(config, transfer=c.Transfer(init_from=str(workdir)))
    assert np.isfinite(train(fine, tmp_path / "fine")["test"]["loss"])
