"""Batch sizes: which are tried, what does not fit, what is proposed."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.cli import tune
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.tune import batch


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(batch, "_TIMED", 0.01)


def fails_above(part):
    """Steps whose parts are larger than `part` really ask for more memory than there is."""

    def images_per_second(run, train_state, epoch):
        config = run.config
        if config.batch_size // config.optim.accumulate > part:
            jnp.zeros(2**50, jnp.uint8).block_until_ready()
        return float(config.batch_size)

    return images_per_second


@pytest.mark.parametrize(
    ("images", "devices", "largest", "own", "expected"),
    [
        (1000, 1, None, 64, [32, 64, 128, 256, 512]),
        (1000, 1, None, 100, [32, 64, 100, 128, 256, 512]),
        (1000, 1, 200, 64, [32, 64, 128]),
        (1000, 1, 64, 128, [32, 64]),
        (72, 1, None, 80, [32, 64]),  # the config's own is larger than the set
        (20, 1, None, 16, [16]),
        (20, 1, None, 32, [20]),
        (100, 24, None, 48, [48]),
        (100, 24, None, 120, [96]),
    ],
)
def test_sizes_to_try(images, devices, largest, own, expected):
    assert batch.ladder(images, devices=devices, largest=largest, own=own) == expected


def test_no_size_to_try():
    with pytest.raises(UserError, match="no batch of at most 6 images can be shared by 8 devices"):
        batch.ladder(100, devices=8, largest=6, own=16)


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["resident", pytest.param("streamed", marks=pytest.mark.deep)])
def test_every_size_that_fits_is_measured(feed, tiny_config, tiny_arrays):
    config = tiny_config(data=dataclasses.replace(tiny_config().data, feed=feed))
    seen, alive = [], []

    def report(trial):
        seen.append(trial)
        alive.append(len(jax.live_arrays()))

    found = batch.find(config, arrays=tiny_arrays, report=report)
    assert alive[0] == alive[1] == alive[2], "a size that was tried gives all its memory back"
    assert [trial.batch_size for trial in found.trials] == [16, 32, 64]
    assert seen == found.trials
    assert all(trial.fits and trial.images_per_second > 0 for trial in found.trials)
    assert found.largest.batch_size == 64
    assert found.fastest.images_per_second == max(trial.images_per_second for trial in found.trials)
    assert found.stopped == "the training set has 72 images"
    assert found.advice == ["batch_size = 16 of the config fits as a whole"]
    # More than the state and the images, which are the step's arguments; and growing with the batch.
    run = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(run.initial_state()))
    held += (72 + 21 + 27) * 192 if feed == "resident" else 16 * 192
    memory = [trial.memory for trial in found.trials]
    assert held < memory[0] < memory[1] < memory[2]


@pytest.mark.slow
def test_out_of_memory_means_it_does_not_fit(monkeypatch, tiny_config, tiny_arrays):
    """Even the first size is too large; the config's own batch is kept by accumulation, which is tried too."""
    monkeypatch.setattr(batch, "_images_per_second", fails_above(16))
    alive = []
    found = batch.find(
        tiny_config(batch_size=64), arrays=tiny_arrays, report=lambda trial: alive.append(len(jax.live_arrays()))
    )
    assert len(set(alive)) == 1, "a size that failed holds on to memory"
    assert [(trial.batch_size, trial.accumulate, trial.fits) for trial in found.trials] == [
        (32, 1, False),
        (16, 1, True),
        (64, 4, True),
    ]
    assert found.trials[0].verdict == "does not fit: a real step ran out of memory"
    assert found.largest.batch_size == found.fastest.batch_size == 16
    assert found.stopped == "the next size does not fit"
    assert "to keep batch_size = 64: --config.optim.accumulate=4" in found.advice[0]


@pytest.mark.slow
def test_what_does_not_fit_by_analysis_is_not_run(monkeypatch, tiny_config, tiny_arrays):
    monkeypatch.setattr(batch, "memory_limit", lambda mesh: 1000)
    monkeypatch.setattr(batch, "_images_per_second", None)
    found = batch.find(tiny_config(batch_size=4), arrays=tiny_arrays)
    assert [trial.batch_size for trial in found.trials] == [4, 2, 1]
    assert {trial.verdict for trial in found.trials} == {"does not fit, by analysis"}
    assert found.largest is None
    assert "no batch fits" in found.advice[0]


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch, tiny_config, tiny_arrays):
    def broken(run, train_state, epoch):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(batch, "_images_per_second", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        batch.find(tiny_config(), arrays=tiny_arrays)


@pytest.mark.slow
def test_time_is_up(tiny_config, tiny_arrays):
    found = batch.find(tiny_config(batch_size=64), arrays=tiny_arrays, seconds=0)
    assert [trial.batch_size for trial in found.trials] == [32]
    assert found.stopped == "--seconds 0 are over"
    assert found.advice == ["batch_size = 64 of the config was not tried: --seconds 0 are over"]


@pytest.mark.slow
def test_a_batch_larger_than_the_set(monkeypatch, tiny_config, tiny_arrays):
    monkeypatch.setattr(batch, "_images_per_second", fails_above(2**40))
    found = batch.find(tiny_config(batch_size=80), arrays=tiny_arrays)
    assert found.advice == ["batch_size = 80 is larger than the training set of 72 images: lower it"]


def test_the_phase_that_trains_the_most_is_tried(tiny_config, tiny_arrays):
    transfer = c.Transfer(freeze=("convs.*",), unfreeze=(c.Unfreeze("convs.*", 1),), allow_frozen_random=True)
    config = tiny_config(transfer=transfer, epochs=3)
    dataset, mesh = data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh)
    assert batch.Trials(config, dataset, mesh, print)._hungriest(Experiment(config, dataset, mesh)) == 1


def test_the_host_s_free_memory_is_shared_by_its_devices():
    one, eight = (batch.memory_limit(meshes.make(c.Mesh(devices=n))) for n in (1, 8))
    assert one > 2**20
    assert eight < one / 4


@pytest.mark.slow
def test_the_command(tiny_config, tiny_arrays, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    (tmp_path / "tiny.py").write_text("from imgcls_jax.tune import _test_config\nget_config = _test_config\n")
    config = tiny_config()
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, source=c.Arrays(str(tmp_path / "images.npz")))
    )
    monkeypatch.setattr("imgcls_jax.tune._test_config", lambda variant: config, raising=False)
    tune.main(["batch", "--config", str(tmp_path / "tiny.py"), "--out", str(tmp_path / "out"), "--largest=32"])
    document = json.loads((tmp_path / "out" / "batch.json").read_text())
    assert [trial["batch_size"] for trial in document["trials"]] == [16, 32]
    assert document["stopped"] == "--largest is 32"
    assert "fastest" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [([], "nothing was given"), (["rate"], "not 'rate'")])
def test_what_to_tune_must_be_said(arguments, message):
    with pytest.raises(UserError, match=message):
        tune.main(arguments)
