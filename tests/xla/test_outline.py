"""Calls that are not inlined: there on one device, not on several, where collectives inside them would deadlock."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.xla import target
from imgcls_jax.xla.outline import outlined


@pytest.mark.parametrize(("devices", "apart"), [(1, True), (2, False)])
def test_on_one_device_alone(devices, apart):
    @jax.jit
    def function(x):
        return outlined(jnp.sin)(x) + 1

    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1] * devices), ("data",))
    with target.tracing_for(mesh):
        text = function.lower(jnp.ones(3)).as_text()
    assert ('inlineable = "false"' in text) == apart


@pytest.mark.slow
def test_two_virtual_devices_train_to_the_end(tmp_path):
    """A CNN with convolutions whose gradients are summed over the devices: 3 of 4 such runs used to hang."""
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=1 --xla_force_host_platform_device_count=2"}
    for number in range(3):
        command = [sys.executable, "-m", "imgcls_jax", "train", "--config", "configs/digits_cnn.py"]
        command += ["--config.epochs=2", "--workdir", str(tmp_path / str(number))]
        subprocess.run(command, env=os.environ | flags, check=True, timeout=250, capture_output=True)
