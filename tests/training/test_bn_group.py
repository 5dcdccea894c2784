"""BatchNorm over the images of some devices: torch's SyncBatchNorm and BatchNorm, and no sums between devices."""

import jax
import numpy as np
import pytest
from test_loop import assert_same, final_params

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import hlo
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.experiment import Experiment

RATE = 0.1
SGD = c.Optim(c.SGD(), c.Schedule(RATE, c.Constant()))


def network(norm="batch", width=4):
    return c.CNN(convs=(c.Conv(width, 3, padding=1, norm=norm, pool=2),), aggregate="flatten", head=c.Head())


@pytest.fixture
def build(tiny_config, tiny_arrays):
    """Makes an experiment on eight devices; keywords replace a config's fields."""

    def build(**changes):
        config = tiny_config(**{"mesh": c.Mesh(), "model": network(), "optim": SGD, "augment": ()} | changes)
        return Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))

    return build


def two_steps(run):
    """The states before the first step and after the second one, on the host."""
    state = run.initial_state()
    before = jax.device_get(state)
    state, _ = run.enter_phase(state, 0, previous=0)
    for state, _, _ in run.training.epoch(state, 0, 0, last=2):
        pass
    return before, jax.device_get(state)


def collectives(run):
    return hlo.parse(run.enter_phase(run.abstract_state(0), 0, previous=0)[1].as_text()).collectives()


@pytest.mark.parametrize(("bn_group", "groups"), [(1, 8), (4, 2)])
def test_training_is_torchs(bn_group, groups, build):
    """BatchNorm2d of the images of a group together is what SyncBatchNorm computes within it."""
    torch = pytest.importorskip("torch")
    run = build(bn_group=bn_group)
    before, after = two_steps(run)

    def tensors(params):
        conv, bn, out = params["convs"][0]["conv"], params["convs"][0]["bn"], params["head"]["out"]
        kernel = np.moveaxis(conv["kernel"], (3, 2), (0, 1))
        return [np.array(x) for x in (kernel, conv["bias"], bn["scale"], bn["bias"], out["kernel"], out["bias"])]

    theirs = [torch.tensor(value, requires_grad=True) for value in tensors(before.params)]
    mean, var = torch.zeros(groups, 4), torch.ones(groups, 4)  # the buffers of each group
    split, settings = run.dataset.train, run.config.data
    order = data.train_order(split.labels, settings.sampling, run.config.seed, 0)
    for step in range(2):
        rows = order[step * 16 : (step + 1) * 16]
        images = (split.read(rows) / 255 - settings.mean) / settings.std
        kernel, conv_bias, scale, bias, head, head_bias = theirs
        x = torch.tensor(np.moveaxis(images, -1, 1).astype(np.float32))
        x = torch.nn.functional.conv2d(x, kernel, conv_bias, padding=1)
        parts = [
            torch.nn.functional.batch_norm(part, mean[i], var[i], scale, bias, training=True)
            for i, part in enumerate(x.chunk(groups))
        ]
        x = torch.nn.functional.max_pool2d(torch.cat(parts).relu(), 2).permute(0, 2, 3, 1).flatten(1)
        loss = torch.nn.functional.cross_entropy(
            x @ head + head_bias, torch.tensor(split.labels[rows].astype(np.int64))
        )
        gradients = torch.autograd.grad(loss, theirs)
        theirs = [
            (x - RATE * gradient).detach().requires_grad_() for x, gradient in zip(theirs, gradients, strict=True)
        ]
    for ours, value in zip(tensors(after.params), theirs, strict=True):
        np.testing.assert_allclose(ours, value.detach(), rtol=1e-5, atol=1e-6)
    statistics = after.stats["convs"][0]["bn"]
    np.testing.assert_allclose(statistics["mean"], mean.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], var.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_by_itself_a_device_sums_nothing_but_gradients_statistics_and_metrics(build):
    """All of which are one sum at the step's end."""
    without = collectives(build(model=network("none")))
    alone = collectives(build(bn_group=1))
    assert without.keys() == alone.keys() == {"all-reduce"}
    (count, sent), (alone_count, alone_sent) = without["all-reduce"], alone["all-reduce"]
    assert alone_count == count == 1
    assert alone_sent - sent == 4 * (4 * 4)  # scale, bias, mean and variance of four channels, float32
    assert collectives(build())["all-reduce"][0] > 1


TOGETHER = dict(
    batch_size=32,
    mesh=c.Mesh(fsdp=4),
    model=network(width=8),
    optim=c.Optim(c.SGD(momentum=0.9), SGD.schedule, accumulate=2, ema=c.EMA(0.9)),
)
"""Parts of a batch, averages, and arrays that are split among devices."""


@pytest.fixture
def all_are_split(monkeypatch):
    monkeypatch.setattr(meshes, "_SMALLEST_SPLIT", 64)


@pytest.mark.slow
def test_it_is_the_same_on_one_device(build, all_are_split):
    """The same parts of the batch, computed there one beside the other."""
    one = build(**TOGETHER | dict(mesh=c.Mesh(devices=1), bn_group=1))
    one.group_batch_norm(4)
    (_, expected), (_, several) = two_steps(one), two_steps(build(**TOGETHER, bn_group=2))
    for name in ("params", "stats", "average"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            getattr(expected, name),
            getattr(several, name),
        )


@pytest.mark.slow
def test_by_itself_a_device_needs_no_other_ones_images(build, all_are_split):
    """Split in parts and among devices, in bf16: it communicates what a network without BatchNorm does, as often."""
    settings = TOGETHER | dict(precision="bf16")
    without = collectives(build(**settings | dict(model=network("none", 8))))
    alone = collectives(build(**settings, bn_group=1))
    assert {kind: count for kind, (count, _) in alone.items()} == {kind: count for kind, (count, _) in without.items()}


def test_no_batch_norm_to_group_is_refused(build):
    with pytest.raises(UserError, match=r"bn_group is set, and the network has no BatchNorm .*: leave it out"):
        build(model=network("none"), bn_group=1)


class InterruptAtFive(ic.Callback):
    def on_step(self, run):
        if run.step == 5:
            run.interrupt()


@pytest.mark.slow
def test_a_run_keeps_its_groups_on_other_devices(tiny_config, tiny_arrays, tmp_path):
    def train(workdir, *callbacks, devices=4, bn_group=1):
        config = tiny_config(model=network(), mesh=c.Mesh(devices=devices), bn_group=bn_group)
        return ic.train(
            config, tmp_path / workdir, arrays=tiny_arrays, callbacks=callbacks, console=Console(silent=True)
        )

    train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("moved", InterruptAtFive())
    with pytest.raises(UserError, match=r"another config.*\n  bn_group: 1 → 2"):
        train("moved", bn_group=2)
    train("moved", devices=2)
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / "moved"), rtol=0, atol=1e-5)
