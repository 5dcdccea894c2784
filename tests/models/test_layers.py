"""Each building block against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_reference import to_ours

from imgcls_jax.models.layers import BatchNorm, Conv2d, DropPath, activation, dropout2d, global_average_pool, max_pool

rng = np.random.default_rng(0)


def nchw(x):
    import torch

    return torch.tensor(np.moveaxis(np.asarray(x, np.float32), -1, 1), requires_grad=True)


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def batch_norm_pair(features, x_shape):
    """Ours and torch's BatchNorm with the same random parameters and statistics."""
    torch = pytest.importorskip("torch")
    theirs = (torch.nn.BatchNorm2d if len(x_shape) == 4 else torch.nn.BatchNorm1d)(features)
    ours = BatchNorm(features)
    draw = np.random.default_rng(1)
    for mine, other in (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
        value = draw.uniform(0.5, 2, features).astype(np.float32)
        getattr(ours, mine)[...] = jnp.asarray(value)
        getattr(theirs, other).data = torch.from_numpy(value)
    return ours, theirs


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (8, 6)], ids=["2d", "1d"])
def test_batch_norm_trains_as_torch(shape):
    ours, theirs = batch_norm_pair(6, shape)
    for step in range(3):
        x = np.random.default_rng(step).normal(2, 3, shape).astype(np.float32)
        x_torch = nchw(x)
        expected = theirs(x_torch)
        np.testing.assert_allclose(ours(jnp.asarray(x)), nhwc(expected), atol=2e-6)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.var[...], theirs.running_var.numpy(), rtol=1e-6)

    weights = rng.standard_normal(shape).astype(np.float32)
    (expected * nchw(weights)).sum().backward()
    graphdef, state = nnx.split(nnx.view(ours, update_running=False))

    def loss(state, x):
        return (nnx.merge(graphdef, state)(x) * weights).sum()

    grads, grad_x = jax.grad(loss, (0, 1))(state, jnp.asarray(x))
    np.testing.assert_allclose(grad_x, nhwc(x_torch.grad), atol=2e-6)
    np.testing.assert_allclose(grads["scale"][...], theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads["bias"][...], theirs.bias.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_batch_norm_evaluates_as_torch():
    ours, theirs = batch_norm_pair(6, (4, 3, 5, 6))
    before = np.asarray(ours.mean[...])
    x = rng.normal(2, 3, (4, 3, 5, 6)).astype(np.float32)
    view = nnx.view(ours, use_running_average=True, update_running=False)
    np.testing.assert_allclose(view(jnp.asarray(x)), nhwc(theirs.eval()(nchw(x))), atol=2e-6)
    np.testing.assert_array_equal(ours.mean[...], before)


def test_batch_norm_switches_are_independent():
    x = jnp.asarray(rng.normal(2, 3, (16, 4)), jnp.float32)

    def run(**switches):
        view = nnx.view(BatchNorm(4), **switches)
        return np.asarray(view(x)), np.asarray(view.mean[...])

    batch, untouched = run(use_running_average=False, update_running=False)
    running, moved = run(use_running_average=True, update_running=True)
    np.testing.assert_allclose(batch.mean(0), 0, atol=1e-5)
    np.testing.assert_array_equal(untouched, 0)
    np.testing.assert_allclose(running, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(moved, 0.1 * x.mean(0), rtol=1e-6)


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    x = rng.normal(5, 1, (64, 4, 4, 3)).astype(np.float32)
    norm = BatchNorm(3)
    y = norm(jnp.asarray(x, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64).reshape(-1, 3)
    assert norm.var[...].dtype == jnp.float32
    np.testing.assert_allclose(norm.mean[...], 0.1 * rounded.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * rounded.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_of_a_sharded_batch_uses_the_whole_batch():
    x = jnp.asarray(rng.normal(2, 3, (8, 4)), jnp.float32)
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    graphdef, state = nnx.split(BatchNorm(4))
    y = jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, sharded)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_of_groups_is_one_of_each_group(dtype):
    """By torch: the same layer for each of the groups, whose gradients are summed and running statistics averaged."""
    torch = pytest.importorskip("torch")
    draws = rng.normal(2, 3, (8, 3, 5, 6)), rng.standard_normal((8, 3, 5, 6))
    x, weights = (np.asarray(jnp.asarray(draw, dtype), np.float32) for draw in draws)
    ours = batch_norm_pair(6, x.shape)[0]
    copies = [batch_norm_pair(6, x.shape)[1] for _ in range(4)]
    x_torch = nchw(x)
    expected = torch.cat([copy(part) for copy, part in zip(copies, x_torch.chunk(4), strict=True)])
    (expected * nchw(weights)).sum().backward()

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    graphdef, params, stats = nnx.split(nnx.view(ours, batch_groups=4), nnx.Param, nnx.BatchStat)

    params, before = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def loss(params, x):
        norm = nnx.merge(graphdef, params, before)
        y = norm(x)
        return (y.astype(jnp.float32) * weights).sum(), (y, nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat)))

    sharded = jax.device_put(jnp.asarray(x, dtype), jax.NamedSharding(mesh, jax.P("data")))
    (grads, grad_x), (y, stats) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, sharded)
    close = dict(rtol=1e-5, atol=1e-5) if dtype == jnp.float32 else dict(rtol=2e-2, atol=2e-2)
    assert y.dtype == grad_x.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float32), nhwc(expected), **close)
    np.testing.assert_allclose(np.asarray(grad_x, np.float32), nhwc(x_torch.grad), **close)
    for name, there in (("scale", "weight"), ("bias", "bias")):
        total = sum(getattr(copy, there).grad for copy in copies)
        np.testing.assert_allclose(grads[name], total, **close)
    for name, there in (("mean", "running_mean"), ("var", "running_var")):
        average = sum(getattr(copy, there) for copy in copies) / 4
        np.testing.assert_allclose(stats[name], average, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_matches_torch(kernel, stride, groups):
    torch = pytest.importorskip("torch")
    padding = kernel // 2 if stride < 3 else 0
    theirs = torch.nn.Conv2d(4, 6, kernel, stride, padding, groups=groups)
    ours = Conv2d(4, 6, kernel, stride=stride, padding=padding, groups=groups, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert ours.kernel[...].shape == to_ours(theirs.weight.detach().numpy()).shape
    ours.kernel[...] = jnp.asarray(to_ours(theirs.weight.detach().numpy()))
    ours.bias[...] = jnp.asarray(theirs.bias.detach().numpy())
    x = rng.standard_normal((2, 9, 12, 4)).astype(np.float32)
    x_torch = nchw(x)
    expected = theirs(x_torch)
    np.testing.assert_allclose(ours(jnp.asarray(x)), nhwc(expected), atol=1e-5)

    weights = rng.standard_normal(nhwc(expected).shape).astype(np.float32)
    (expected * nchw(weights)).sum().backward()
    graphdef, state = nnx.split(ours)
    grads, grad_x = jax.grad(lambda s, x: (nnx.merge(graphdef, s)(x) * weights).sum(), (0, 1))(state, jnp.asarray(x))
    np.testing.assert_allclose(grad_x, nhwc(x_torch.grad), atol=1e-5)
    np.testing.assert_allclose(grads["kernel"][...], to_ours(theirs.weight.grad.numpy()), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(grads["bias"][...], theirs.bias.grad.numpy(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu"])
def test_activation_matches_torch(name):
    torch = pytest.importorskip("torch")
    functional = {"leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.1)}
    x = torch.tensor([-30.0, -1.5, -0.1, 0.0, 0.1, 2.0, 30.0], requires_grad=True)
    expected = functional.get(name, getattr(torch.nn.functional, name, None))(x)
    expected.sum().backward()
    function = activation(name, leaky_slope=0.1)
    values = jnp.asarray(x.detach().numpy())
    np.testing.assert_allclose(function(values), expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda v: function(v).sum())(values), x.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "ceil_mode"),
    [
        ((8, 8), 2, 2, 0, False),
        ((9, 7), 2, 2, 0, False),
        ((9, 7), 3, 3, 0, False),
        ((9, 8), 3, 2, 1, False),
        ((10, 8), 3, 2, 0, True),
        ((2, 3), 3, 2, 0, True),
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_matches_torch(size, window, stride, padding, ceil_mode, ties):
    """Also where several values of a window are equal, which is common after ReLU: the first gets the gradient."""
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, *size, 3)).astype(np.float32) - 5  # all negative: zero padding would show
    if ties:
        x = np.round(x)
    x_torch = nchw(x)
    expected = torch.nn.functional.max_pool2d(x_torch, window, stride, padding, ceil_mode=ceil_mode)

    def pool(x):
        return max_pool(x, window, stride=stride, padding=padding, ceil_mode=ceil_mode)

    np.testing.assert_array_equal(pool(jnp.asarray(x)), nhwc(expected))
    weights = rng.standard_normal(nhwc(expected).shape).astype(np.float32)
    (expected * nchw(weights)).sum().backward()
    grad = jax.grad(lambda x: (pool(x) * weights).sum())(jnp.asarray(x))
    np.testing.assert_allclose(grad, nhwc(x_torch.grad), atol=1e-6)


def test_global_average_pool_sums_in_float32():
    x = jnp.asarray(rng.normal(100, 1, (2, 64, 64, 3)), jnp.bfloat16)
    expected = np.asarray(x, np.float64).mean((1, 2))
    y = global_average_pool(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8)


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3))
    y = np.asarray(DropPath(0.25)(x, nnx.Rngs(0)))
    rows = y.reshape(4000, -1)
    assert (rows == rows[:, :1]).all()
    assert set(np.unique(rows)) == {0.0, np.float32(1 / 0.75)}
    assert abs((rows[:, 0] == 0).mean() - 0.25) < 0.03
    still = nnx.view(DropPath(0.25), deterministic=True)
    np.testing.assert_array_equal(still(x, None), x)


def test_dropout2d_drops_whole_channels():
    y = np.asarray(dropout2d(0.5)(jnp.ones((50, 4, 4, 8)), rngs=nnx.Rngs(0)))
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert abs((y[:, 0, 0] == 0).mean() - 0.5) < 0.1
