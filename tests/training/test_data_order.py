"""The images of each step depend on the seed alone: not on devices, decoding threads, or where the images lie."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment


@pytest.mark.parametrize(
    ("feed", "devices", "workers"),
    [("resident", 1, 0), ("resident", 8, 0), ("streamed", 1, 1), ("streamed", 1, 5), ("streamed", 8, 3)],
)
def test_order_of_the_images(tiny_config, tiny_arrays, feed, devices, workers):
    settings = dataclasses.replace(tiny_config().data, feed=feed, workers=workers)
    config = tiny_config(data=settings, mesh=c.Mesh(devices=devices), seed=3)
    run = Experiment(config, data.load(settings, arrays=tiny_arrays), meshes.make(config.mesh))
    weights = np.arange(1, config.batch_size + 1) ** 2  # so that a sum tells one order from another

    def step(state, batch):
        return state.replace(step=(batch["index"] * jnp.asarray(weights)).sum().astype(jnp.int32))

    state = run.initial_state()
    run.training.compile(step, state)
    seen = []
    for epoch in (0, 1):
        for state, _, _ in run.training.epoch(state, epoch, 0):
            seen.append(int(state.step))
    orders = [data.epoch_order(3, epoch, 72)[:64].reshape(-1, config.batch_size) for epoch in (0, 1)]
    assert seen == [int((rows * weights).sum()) for rows in np.concatenate(orders)]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_same_batches(tiny_config, tiny_arrays, processes):
    split = data.load(tiny_config().data, arrays=tiny_arrays).train
    order = data.epoch_order(0, 0, len(split))
    parts = [
        [batch["index"] for batch in data.train_batches(split, order, 16, process_index=i, process_count=processes)]
        for i in range(processes)
    ]
    whole = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    np.testing.assert_array_equal(whole, order[:64].reshape(-1, 16))
