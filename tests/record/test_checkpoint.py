"""Checkpoints of a run that goes on are not disturbed by who reads them."""

import jax.numpy as jnp

from imgcls_jax.record.checkpoint import Checkpoints


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


def test_reading_makes_no_folder(tmp_path):
    reader = Checkpoints(tmp_path / "none", read_only=True)
    assert reader.latest() is None
    assert not (tmp_path / "none").exists()
