"""Bytes of the training state per parameter, as docs/scaling.md states them."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import images, programs

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
# | `SGD(momentum=0.9)`, `Lion()` | 8 | 12 |
ROWS = [
    (optimizer, int(plain), int(averaged))
    for optimizers, plain, averaged in re.findall(r"^\| (`.*`) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    for optimizer in re.findall(r"`(.*?)`", optimizers)
]


def per_parameter(config):
    """Bytes per device of the state for each parameter of the network."""
    mesh = meshes.make(config.mesh)
    state = programs.experiment(config, images.unread(config, 10, 1000)[0], mesh).abstract_state(0)
    kept = [state.params, state.frozen, state.stats, state.opt_state, state.average]
    count = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen)))
    nbytes = sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in jax.tree.leaves(kept))
    return nbytes / count


@pytest.fixture(scope="module")
def config():
    small = io.load("configs/digits_cnn.py")
    convs = tuple(
        c.Conv(width, 3, padding=1, norm="batch", pool=pool) for width, pool in ((64, 2), (512, 2), (1024, 2))
    )
    model = dataclasses.replace(small.model, convs=convs, aggregate="average", head=c.Head())
    return dataclasses.replace(small, model=model, augment=(), batch_size=16)


def test_the_page_has_the_usual_optimizers():
    assert {"SGD()", "SGD(momentum=0.9)", "AdamW()"} <= {optimizer for optimizer, _, _ in ROWS}


@pytest.mark.parametrize(("precision", "fsdp"), [("fp32", 1), ("bf16", 8)])
@pytest.mark.parametrize(("optimizer", "plain", "averaged"), ROWS)
def test_bytes_per_parameter(optimizer, plain, averaged, precision, fsdp, config):
    name, keywords = re.fullmatch(r"(\w+)\((.*)\)", optimizer).groups()
    settings = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", keywords)}
    made = getattr(c, name)(**settings)
    for average, wanted in ((None, plain), (c.EMA(0.999), averaged)):
        optim = dataclasses.replace(config.optim, optimizer=made, ema=average)
        mesh = c.Mesh(fsdp=fsdp, devices=fsdp)
        found = per_parameter(dataclasses.replace(config, optim=optim, precision=precision, mesh=mesh))
        # BatchNorm's statistics, and what is too small to be split, are beside it.
        assert found == pytest.approx(wanted / fsdp, rel=0.04)
