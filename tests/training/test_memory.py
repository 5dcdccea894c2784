"""What is said where memory runs out, about a step that really does not fit."""

import dataclasses
import re

import jax
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import memory
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.loop import train


def need(config, arrays):
    """Bytes of a config's compiled step."""
    run = Experiment(config, data.load(config.data, arrays=arrays), meshes.make(config.mesh))
    return memory.config_memory(run, config, 0)


@pytest.fixture
def wide(tiny_config):
    """A config whose activations take most of the memory."""
    model = c.CNN(convs=(c.Conv(64, 3, padding=1),), aggregate="average", head=c.Head())
    return tiny_config(model=model, batch_size=64, epochs=1)


def exhausted(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123456 bytes.")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.7, pytest.param(0.3, marks=pytest.mark.deep)])
def test_what_is_proposed_fits(wide, tiny_arrays, tmp_path, monkeypatch, share):
    whole = need(wide, tiny_arrays)
    limit = int(share * whole)
    monkeypatch.setattr(memory, "memory_limit", lambda mesh: limit)
    monkeypatch.setattr("imgcls_jax.training.run.Run.dispatches", exhausted)
    with pytest.raises(memory.OutOfMemory, match="too much") as caught:
        train(wide, tmp_path / "run", arrays=tiny_arrays)
    text = str(caught.value)
    assert "at an allocation of 120.6 KiB" in text
    batch = int(re.search(r"--config.batch_size=(\d+)", text)[1])
    assert need(dataclasses.replace(wide, batch_size=batch), tiny_arrays) <= limit
    assert need(dataclasses.replace(wide, batch_size=2 * batch), tiny_arrays) > limit
    if parts := re.search(r"--config.optim.accumulate=(\d+)", text):
        optim = dataclasses.replace(wide.optim, accumulate=int(parts[1]))
        assert need(dataclasses.replace(wide, optim=optim), tiny_arrays) <= limit


@pytest.mark.slow
@pytest.mark.deep
def test_nothing_fits(wide, tiny_arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda mesh: 10)
    monkeypatch.setattr("imgcls_jax.training.run.Run.dispatches", exhausted)
    with pytest.raises(memory.OutOfMemory, match="take a smaller model or image size"):
        train(wide, tmp_path / "run", arrays=tiny_arrays)


def test_other_errors_stay_what_they_are(wide, tiny_arrays, tmp_path, monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr("imgcls_jax.training.run.Run.dispatches", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(wide, tmp_path / "run", arrays=tiny_arrays)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "said"), [(0.5, True), (2.0, False)])
def test_before_the_first_step(wide, tiny_arrays, tmp_path, monkeypatch, capsys, share, said):
    limit = int(share * need(wide, tiny_arrays))
    monkeypatch.setattr("imgcls_jax.training.checkup.memory_limit", lambda mesh: limit)
    train(wide, tmp_path / "run", arrays=tiny_arrays)
    assert ("the training step does not fit into memory" in capsys.readouterr().out) == said
