"""One training step: accumulation, loss scaling, frozen parameters."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import steps
from imgcls_jax.training.experiment import Experiment

PLAIN = c.CNN(convs=(c.Conv(4, 3, padding=1, pool=2),), aggregate="flatten", head=c.Head())


def one_step(config, arrays, change=lambda state: state):
    """The states before (a copy, on the host) and after the first step of a run."""
    run = Experiment(config, data.load(config.data, arrays=arrays), meshes.make(config.mesh))
    state = change(run.initial_state())
    before = jax.device_get(state)
    state, _ = run.enter_phase(state, 0, previous=0)
    for after, _, _ in run.training.epoch(state, 0, 0):
        return before, jax.device_get(after)


@pytest.mark.slow
def test_accumulation_is_exact_without_batch_norm(tiny_config, tiny_arrays):
    """Mixup is drawn for the whole batch, so that parts and whole see the same images."""
    schedule = c.Schedule(peak=0.1, shape=c.Constant())
    after = {}
    for parts in (1, 4):
        optim = c.Optim(c.SGD(momentum=0.9), schedule, accumulate=parts)
        config = tiny_config(model=PLAIN, optim=optim, augment=(c.HorizontalFlip(), c.Mixup(0.5)))
        after[parts] = one_step(config, tiny_arrays)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after[1].params, after[4].params)
    assert after[1].metrics.top1.count == after[4].metrics.top1.count == 16
    np.testing.assert_allclose(after[1].metrics.loss.total, after[4].metrics.loss.total, rtol=1e-5)


def test_an_overflowing_fp16_step_changes_nothing_but_the_scale(tiny_config, tiny_arrays):
    config = tiny_config(precision="fp16")
    huge = jnp.float32(2.0**120)
    before, after = one_step(config, tiny_arrays, lambda s: s.replace(loss_scale=s.loss_scale._replace(scale=huge)))
    for name in ("params", "stats", "opt_state", "metrics"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))
    assert after.loss_scale.scale == 2.0**119
    assert after.loss_scale.skipped == 1
    assert after.step == 1


def test_frozen_parameters_cost_nothing_and_stay(tiny_config, tiny_arrays):
    transfer = c.Transfer(freeze=("convs.*",), allow_frozen_random=True)
    config = tiny_config(transfer=transfer, optim=c.Optim(c.AdamW(), c.Schedule(peak=0.1, shape=c.Constant())))
    before, after = one_step(config, tiny_arrays)
    jax.tree.map(np.testing.assert_array_equal, before.frozen, after.frozen)
    trained = sum(leaf.size for leaf in jax.tree.leaves(before.params))
    moments = sum(leaf.size for leaf in jax.tree.leaves(before.opt_state) if leaf.ndim)
    assert set(before.params) == {"head"}
    assert moments == 2 * trained


@pytest.mark.slow
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("normalize_by", ["batch", "running"])
def test_the_switches_of_batch_norm(normalize_by, update, tiny_config, tiny_arrays):
    mode = c.BatchNormMode(normalize_by=normalize_by, update_running=update)
    before, after = one_step(tiny_config(transfer=c.Transfer(batch_norm=mode)), tiny_arrays)
    changed = not np.array_equal(before.stats["convs"][0]["bn"]["mean"], after.stats["convs"][0]["bn"]["mean"])
    assert changed == update
    expected = one_step(tiny_config(), tiny_arrays)[1].metrics.loss.total
    assert np.isclose(after.metrics.loss.total, expected, rtol=1e-4) == (normalize_by == "batch")


@pytest.mark.slow
def test_no_backward_pass_below_the_lowest_trained_layer(tiny_config, tiny_arrays):
    """In FLOPs of the compiled step."""
    model = c.CNN(convs=tuple(c.Conv(16, 3, padding=1) for _ in range(4)), aggregate="average", head=c.Head())
    flops = {}
    for name, patterns in {"all": (), "head": ("convs.*",)}.items():
        transfer = c.Transfer(freeze=patterns, allow_frozen_random=True)
        config = tiny_config(model=model, transfer=transfer)
        run = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
        _, step = run.enter_phase(run.initial_state(), 0, previous=0)
        flops[name] = step.cost_analysis()["flops"]
    # Forward one part; backward two more parts, of which nothing is left for frozen convolutions.
    assert flops["head"] < 0.5 * flops["all"]


def test_evaluation_prefers_the_average(tiny_config, tiny_arrays):
    config = tiny_config(optim=c.Optim(c.SGD(), c.Schedule(peak=0.1, shape=c.Constant()), ema=c.EMA(0.5)))
    run = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    state = run.initial_state()
    average = state.average._replace(params=jax.tree.map(lambda x: x + 1, state.average.params), count=jnp.int32(1))
    params, _ = steps.build_evaluation_variables(run.optimizer(0))(state.replace(average=average))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 1), params, state.params)


@pytest.mark.slow
def test_rematerialisation_keeps_only_products(tiny_config, tiny_arrays):
    """The same step; of what depends on the images the backward pass is given the outputs of the convolution and of
    the dense layer, beside the images and labels themselves."""
    plain, again = (one_step(tiny_config(remat=remat), tiny_arrays)[1] for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), plain.params, again.params)

    config = tiny_config(remat=True)
    run = Experiment(config, data.load(config.data, arrays=tiny_arrays), meshes.make(config.mesh))
    run.training.compile = Mock(return_value=Mock(spec=jax.stages.Compiled))
    batch = {"image": jnp.zeros((16, 8, 8, 3), jnp.uint8), "label": jnp.zeros(16, jnp.int32)}
    run._compile(0)
    step, state, _ = run.training.compile.call_args.args
    jaxpr = jax.make_jaxpr(step)(state, batch | {"aspect": jnp.ones(16), "index": jnp.arange(16)}).jaxpr
    (backward,) = (equation for equation in jaxpr.eqns if equation.primitive.name == "remat2")
    kept = sorted(x.aval.shape for x in backward.invars if x.aval.shape[:1] == (16,))
    assert kept == [(16, 3), (16, 3), (16, 8, 8, 3), (16, 8, 8, 4)]
