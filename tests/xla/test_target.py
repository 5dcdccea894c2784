"""What a training step becomes for each platform: the compiler's own operations, but for what its backend gains."""

import dataclasses

import jax
import pytest

from imgcls_jax.config import io
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import images, programs
from imgcls_jax.xla import target


@pytest.fixture(scope="module")
def traced():
    config = io.load("configs/digits_cnn.py", ["batch_size=8", "mesh.devices=1"])
    model = dataclasses.replace(config.model, convs=config.model.convs[:2], aggregate="average")
    config = dataclasses.replace(config, model=model)
    run = programs.experiment(config, images.unread(config, None, None)[0], meshes.make(config.mesh))
    return programs.trace(run, 0)


@pytest.mark.parametrize(("platform", "apart", "scatters"), [("cpu", True, 0), ("cuda", False, 0), ("tpu", False, 1)])
def test_step_for_a_platform_has_no_other_ones_ways(traced, platform, apart, scatters):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ('inlineable = "false"' in text) == apart
    assert text.count("select_and_scatter") == scatters


def test_target_is_the_meshs():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    with target.tracing_for(mesh):
        assert target.current() == target.Target("cpu", 1)
    assert target.current() == target.Target()
