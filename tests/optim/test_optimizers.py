import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from imgcls_jax import config as c
from imgcls_jax.optim import optimizers


def nested(flat: dict[str, np.ndarray]) -> dict:
    return unflatten_dict({tuple(path.split(".")): jnp.asarray(p) for path, p in flat.items()})


def flat(tree: dict) -> dict[str, np.ndarray]:
    return {".".join(path): np.asarray(p) for path, p in flatten_dict(tree).items()}


def settings(optimizer=None, **others) -> c.Optim:
    return c.Optim(optimizer or c.SGD(), c.Schedule(0.1, c.Constant()), **others)


def run(optim: c.Optim, reference: dict, *, steps: int | None = None, **scales) -> dict[str, np.ndarray]:
    """Parameters to evaluate after the golden script's gradients and rates; one compilation for all rates."""
    params = nested(reference["parameters"]())
    optimizer = optimizers.build(optim, params, **scales)
    state = optimizer.init(params)

    @jax.jit
    def step(grads, state, params, rate):
        return optimizer.update(grads, state, params, learning_rate=rate)

    for rate, grads in list(zip(reference["RATES"], reference["gradients"](), strict=True))[:steps]:
        params, state = step(nested(grads), state, params, rate)
    assert step._cache_size() == 1
    return flat(optimizer.evaluation_params(params, state))


NORM, VALUE = c.Clip("global_norm", 1.0), c.Clip("value", 0.3)
# Tolerances are float32's rounding; most of Adam's comes from optax's 1 − 0.999^t in float32 (in torch, float64).
CASES = {
    "sgd": (settings(), 5e-7),
    "sgd_momentum": (settings(c.SGD(0.9)), 5e-7),
    "sgd_nesterov": (settings(c.SGD(0.9, nesterov=True, weight_decay=0.05)), 5e-7),
    "sgd_clip_norm": (settings(c.SGD(0.9), clip=NORM), 5e-7),
    "sgd_clip_value": (settings(c.SGD(0.9), clip=VALUE), 5e-7),
    "adam": (settings(c.Adam()), 5e-6),
    "adam_decay": (settings(c.Adam(0.8, 0.99, 1e-5, 0.05)), 1e-6),
    "adamw": (settings(c.AdamW(weight_decay=0.05)), 5e-6),
    "adamw_clip_norm": (settings(c.AdamW(weight_decay=0.05), clip=NORM), 5e-6),
    "rmsprop": (settings(c.RMSprop("torch", 0.9, 1e-4)), 5e-7),
    "rmsprop_momentum": (settings(c.RMSprop("torch", 0.9, 1e-4, momentum=0.8, weight_decay=0.05)), 5e-7),
    "keras_rmsprop": (settings(c.RMSprop("keras", 0.9, 1e-7)), 5e-7),
    "keras_rmsprop_momentum": (settings(c.RMSprop("keras", 0.8, 1e-4, momentum=0.7, weight_decay=0.05)), 5e-6),
    "schedule_free": (settings(c.ScheduleFreeAdamW(weight_decay=0.05)), 5e-6),
}


@pytest.mark.parametrize("name", CASES)
def test_50_steps_equal_the_reference(name, reference, golden):
    optim, tolerance = CASES[name]
    ours = run(dataclasses.replace(optim, decay_norm_and_bias=True), reference)
    for path, value in ours.items():
        theirs = golden[f"optimizer/{name}/{path}"]
        assert np.abs(theirs - reference["parameters"]()[path]).max() > 0.01
        np.testing.assert_allclose(value, theirs, rtol=0, atol=tolerance, err_msg=path)


def test_keras_rmsprop_by_brute_force(reference):
    """Keras's formula in float64, with a momentum that sums steps of different learning rates."""
    ours = run(settings(c.RMSprop("keras", 0.8, 1e-4, momentum=0.7, weight_decay=0.05)), reference)
    p = reference["parameters"]()["out.kernel"].astype(np.float64)
    velocity = momentum = np.zeros_like(p)
    for rate, grads in zip(reference["RATES"], reference["gradients"](), strict=True):
        g = grads["out.kernel"].astype(np.float64)
        p = p - rate * 0.05 * p
        velocity = 0.8 * velocity + 0.2 * g**2
        momentum = 0.7 * momentum + rate * g / np.sqrt(velocity + 1e-4)
        p = p - momentum
    np.testing.assert_allclose(ours["out.kernel"], p, atol=5e-6)


def test_lion_by_brute_force(reference):
    ours = run(settings(c.Lion(0.9, 0.95, weight_decay=0.1)), reference)
    p, m = reference["parameters"]()["out.kernel"].astype(np.float64), 0.0
    for rate, grads in zip(reference["RATES"], reference["gradients"](), strict=True):
        g = grads["out.kernel"].astype(np.float64)
        p = p - rate * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
        m = 0.95 * m + 0.05 * g
    np.testing.assert_allclose(ours["out.kernel"], p, atol=1e-5)


def test_lamb_by_brute_force(reference):
    """Algorithm 2 of the paper with φ the identity; decay only where the default has it."""
    ours = run(settings(c.LAMB(0.9, 0.99, 1e-6, weight_decay=0.1)), reference)
    for path, start in reference["parameters"]().items():
        p, m, v = start.astype(np.float64), 0.0, 0.0
        for t, (rate, grads) in enumerate(zip(reference["RATES"], reference["gradients"](), strict=True), start=1):
            g = grads[path].astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6) + (0.1 * p if p.ndim > 1 else 0)
            p = p - rate * np.linalg.norm(p) / np.linalg.norm(u) * u
        np.testing.assert_allclose(ours[path], p, atol=1e-5, err_msg=path)


def test_muon_by_brute_force(reference):
    """Kernels are torch's [out, in · h · w] matrices, orthogonalised; norms and biases follow AdamW at a fifth."""
    optim = settings(c.Muon(0.9, 4, weight_decay=0.1, rest=c.AdamW(weight_decay=0.1), rest_learning_rate_scale=0.2))
    ours = run(optim, reference)
    for path in ("conv.kernel", "out.kernel"):
        p, m = reference["parameters"]()[path].astype(np.float64), 0.0
        for t, (rate, grads) in enumerate(zip(reference["RATES"], reference["gradients"](), strict=True), start=1):
            g = grads[path].astype(np.float64)
            m = 0.9 * m + 0.1 * g
            nesterov = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
            matrix = np.moveaxis(nesterov, -1, 0).reshape(p.shape[-1], -1)
            x = matrix / np.linalg.norm(matrix)
            for _ in range(4):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x *= max(1, x.shape[0] / x.shape[1]) ** 0.5
            p = p - rate * (np.moveaxis(x.reshape(p.shape[-1], *p.shape[:-1]), 0, -1) + 0.1 * p)
        np.testing.assert_allclose(ours[path], p, atol=2e-5, err_msg=path)
    scaled = dict(reference) | {"RATES": [0.2 * rate for rate in reference["RATES"]]}
    adam = run(settings(c.AdamW(weight_decay=0.1)), scaled)
    for path in ("bn.scale", "out.bias"):
        np.testing.assert_allclose(ours[path], adam[path], atol=1e-6)


def test_muon_with_sgd_and_normalized_kernels_by_brute_force(reference):
    """airbench94_muon: each kernel is scaled to the norm √outputs before its step; the rest follows torch's SGD."""
    sgd = c.SGD(0.85, nesterov=True, weight_decay=0.05)
    muon = c.Muon(0.6, 3, kernels="convolutions", normalize=True, rest=sgd, rest_learning_rate_scale=2.0)
    ours = run(dataclasses.replace(settings(muon), decay_norm_and_bias=True), reference)
    p, m = reference["parameters"]()["conv.kernel"].astype(np.float64), 0.0
    for t, (rate, grads) in enumerate(zip(reference["RATES"], reference["gradients"](), strict=True), start=1):
        g = grads["conv.kernel"].astype(np.float64)
        m = 0.6 * m + 0.4 * g
        nesterov = 0.6 * m / (1 - 0.6 ** (t + 1)) + 0.4 * g / (1 - 0.6**t)
        x = np.moveaxis(nesterov, -1, 0).reshape(p.shape[-1], -1)
        x /= np.linalg.norm(x)
        for _ in range(3):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x *= max(1, x.shape[0] / x.shape[1]) ** 0.5
        p *= p.shape[-1] ** 0.5 / np.linalg.norm(p)
        p -= rate * np.moveaxis(x.reshape(p.shape[-1], *p.shape[:-1]), 0, -1)
    np.testing.assert_allclose(ours["conv.kernel"], p, atol=2e-5)
    scaled = dict(reference) | {"RATES": [2 * rate for rate in reference["RATES"]]}
    alone = run(dataclasses.replace(settings(sgd), decay_norm_and_bias=True), scaled)
    for path in ("out.kernel", "out.bias", "bn.scale"):
        np.testing.assert_allclose(ours[path], alone[path], atol=1e-6)


def test_muon_leaves_tokens_and_embeddings_to_adam():
    params = {"cls_token": jnp.ones((1, 1, 4)), "head": {"kernel": jnp.ones((4, 3))}}
    optimizer = optimizers.build(settings(c.Muon()), params)
    grads = jax.tree.map(lambda p: jnp.arange(1.0, 1 + p.size).reshape(p.shape), params)
    new, _ = optimizer.update(grads, optimizer.init(params), params, learning_rate=0.5)
    # Adam's first step is the gradient's sign.
    np.testing.assert_allclose(1 - new["cls_token"], 0.5 * 0.1, rtol=1e-4)


def test_muon_of_convolutions_leaves_dense_layers_to_adam(reference):
    rest = dict(rest=c.AdamW(weight_decay=0.1), rest_learning_rate_scale=0.2)
    some = run(settings(c.Muon(kernels="convolutions", weight_decay=0.1, **rest)), reference)
    every = run(settings(c.Muon(weight_decay=0.1)), reference)
    np.testing.assert_allclose(some["conv.kernel"], every["conv.kernel"], atol=1e-5)
    scaled = dict(reference) | {"RATES": [0.2 * rate for rate in reference["RATES"]]}
    adam = run(settings(c.AdamW(weight_decay=0.1)), scaled)
    for path in ("out.kernel", "out.bias"):
        np.testing.assert_allclose(some[path], adam[path], atol=1e-6)


def test_muons_first_step_is_torchs():
    """torch orthogonalises in bfloat16 and does not correct the momentum's bias, so only the first step, loosely."""
    torch = pytest.importorskip("torch")
    random = np.random.RandomState(0)
    p, g = random.randn(6, 9).astype(np.float32), random.randn(6, 9).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(p))
    theirs.grad = torch.tensor(g)
    torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1).step()
    params = {"kernel": jnp.asarray(p.T)}
    optimizer = optimizers.build(settings(c.Muon(weight_decay=0.1)), params)
    ours, _ = optimizer.update({"kernel": jnp.asarray(g.T)}, optimizer.init(params), params, learning_rate=0.1)
    np.testing.assert_allclose(ours["kernel"].T, theirs.detach().numpy(), atol=5e-3)


def test_weight_decay_leaves_out_norms_and_biases_and_says_so(reference):
    params = nested(reference["parameters"]())
    params["attention"] = {"query": {"bias": jnp.ones((2, 3))}}
    adamw = c.AdamW(weight_decay=0.1)
    assert optimizers.build(settings(adamw), params).decayed == {
        "attention.query.bias": False,
        "bn.scale": False,
        "conv.kernel": True,
        "out.bias": False,
        "out.kernel": True,
    }
    assert all(optimizers.build(settings(adamw, decay_norm_and_bias=True), params).decayed.values())
    assert not any(optimizers.build(settings(c.AdamW(weight_decay=0.0)), params).decayed.values())
    decayed, plain = run(settings(adamw), reference), run(settings(c.AdamW(weight_decay=0.0)), reference)
    for path in decayed:
        assert np.array_equal(decayed[path], plain[path]) == path.endswith(("scale", "bias"))


@pytest.mark.parametrize("optimizer", [c.SGD(0.9, weight_decay=0.1), c.AdamW(weight_decay=0.1),
                                       c.RMSprop("keras", 0.9, 1e-7, 0.9, 0.1), c.Muon(weight_decay=0.1),
                                       c.ScheduleFreeAdamW(weight_decay=0.1)])  # fmt: skip
def test_scales_are_a_learning_rate_and_weight_decay_of_ones_own(optimizer, reference):
    ones = jax.tree.map(lambda _: 1.0, nested(reference["parameters"]()))
    rates = ones | {"conv": {"kernel": 0.25}}
    decays = ones | {"conv": {"kernel": 3.0}, "out": {"bias": 5.0, "kernel": 0.0}}
    ours = run(settings(optimizer), reference, lr_scale=rates, wd_scale=decays, steps=1)
    plain = run(settings(optimizer), reference, steps=1)
    quarter = dict(reference) | {"RATES": [0.25 * rate for rate in reference["RATES"]]}
    triple = dataclasses.replace(optimizer, weight_decay=0.3)
    zero = dataclasses.replace(optimizer, weight_decay=0.0)
    # A decay's scale does not switch it on for a bias.
    for path in ("out.bias", "bn.scale"):
        np.testing.assert_array_equal(ours[path], plain[path])
    np.testing.assert_allclose(ours["out.kernel"], run(settings(zero), reference, steps=1)["out.kernel"], rtol=1e-6)
    expected = run(settings(triple), quarter, steps=1)["conv.kernel"]
    np.testing.assert_allclose(ours["conv.kernel"], expected, rtol=1e-6)
    assert np.abs(expected - plain["conv.kernel"]).max() > 1e-4


def test_adaptive_clipping_by_brute_force():
    random = np.random.RandomState(0)
    shapes = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "out": {"kernel": (6, 5)}}
    params, grads = (
        jax.tree.map(lambda s: random.randn(*s).astype(np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple))
        for _ in range(2)
    )
    params["conv"]["bias"] *= 1e-6
    grads["out"]["kernel"][:, 0] *= 1e-3
    params, grads = jax.tree.map(jnp.asarray, (params, grads))
    optimizer = optimizers.build(settings(clip=c.Clip("adaptive", 0.1)), params)
    new, _ = optimizer.update(grads, optimizer.init(params), params, learning_rate=1.0)
    for path, g in flat(grads).items():
        p = flat(params)[path]
        axes = tuple(range(max(p.ndim - 1, 1)))
        p_norm = np.maximum(np.sqrt((p**2).sum(axes, keepdims=True)), 1e-3)
        g_norm = np.sqrt((g**2).sum(axes, keepdims=True))
        clipped = g * np.minimum(1, 0.1 * p_norm / g_norm)
        np.testing.assert_allclose(p - flat(new)[path], clipped, atol=1e-6, err_msg=path)


def test_clipping_leaves_small_gradients_alone_and_comes_before_weight_decay():
    params = {"kernel": jnp.full((2, 2), 10.0)}
    optim = settings(c.SGD(weight_decay=1.0), clip=NORM)
    optimizer = optimizers.build(optim, params)
    new, _ = optimizer.update({"kernel": jnp.full((2, 2), 0.25)}, optimizer.init(params), params, learning_rate=1.0)
    np.testing.assert_allclose(new["kernel"], 10 - 0.25 - 10)


def test_lookahead_by_brute_force(reference):
    optim = settings(c.SGD(0.9), lookahead=c.Lookahead(every=4, share=0.3))
    params = nested(reference["parameters"]())
    optimizer = optimizers.build(optim, params)
    state = optimizer.init(params)
    fast = slow = reference["parameters"]()["out.kernel"].astype(np.float64)
    momentum = 0.0
    step = jax.jit(lambda g, s, p, rate: optimizer.update(g, s, p, learning_rate=rate))
    for t, (rate, grads) in enumerate(zip(reference["RATES"], reference["gradients"](), strict=True), start=1):
        params, state = step(nested(grads), state, params, rate)
        momentum = 0.9 * momentum + grads["out.kernel"]
        fast = fast - rate * momentum
        if t % 4 == 0:
            fast = slow = slow + 0.3 * (fast - slow)
        np.testing.assert_allclose(params["out"]["kernel"], fast, atol=2e-6)
        np.testing.assert_allclose(optimizer.evaluation_params(params, state)["out"]["kernel"], slow, atol=2e-6)


@pytest.mark.parametrize("optim", [settings(c.ScheduleFreeAdamW()), settings(lookahead=c.Lookahead())])
def test_state_shares_no_buffer_with_the_parameters(optim, reference):
    """Both are donated to the step; a buffer given twice is an error of XLA's."""
    params = nested(reference["parameters"]())
    optimizer = optimizers.build(optim, params)
    state = optimizer.init(params)
    step = jax.jit(lambda p, s: optimizer.update(p, s, p, learning_rate=0.1), donate_argnums=(0, 1))
    new, _ = step(params, state)
    assert all(jax.tree.leaves(jax.tree.map(lambda p: bool(jnp.isfinite(p).all()), new)))


def test_evaluates_what_it_trains_otherwise(reference):
    params = nested(reference["parameters"]())
    optimizer = optimizers.build(settings(c.AdamW()), params)
    assert optimizer.evaluation_params(params, optimizer.init(params)) is params
