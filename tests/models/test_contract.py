"""What holds for every architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax.config import model as cfg
from imgcls_jax.models import FAMILIES, MODELS, build

LINEAR = cfg.Head()

PUBLISHED = {
    # torchvision's meta["num_params"], 1000 classes.
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    # He et al. 2015, table 6, to the parameter as akamaster/pytorch_resnet_cifar10 counts them; 10 classes.
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    # Zagoruyko & Komodakis 2016: 36.5 million; 10 classes.
    "wrn28_10": 36_479_194,
    # KellerJordan/cifar10-airbench: 1,972,792, of them 2 · (64 + 256 + 256) scales of BatchNorms, frozen at 1.
    "airbench94": 1_972_792 - 1_152,
    # transformers' Dinov2Model and Dinov2WithRegistersModel less the mask token, and a linear head of 1000 classes.
    "dinov2_vits14": 22_056_192 + 384_000 + 1000,
    "dinov2_vitb14": 86_579_712 + 768_000 + 1000,
    "dinov2_vitl14": 304_367_616 + 1_024_000 + 1000,
    "dinov2_vits14_reg": 22_057_728 + 384_000 + 1000,
    "dinov2_vitb14_reg": 86_582_784 + 768_000 + 1000,
    "dinov2_vitl14_reg": 304_371_712 + 1_024_000 + 1000,
}

# One small member of each family, every option once, at the smallest sensible image.
SMALL = {
    "cnn_flatten": (
        cfg.CNN(
            convs=(
                cfg.Conv(4, 5, pool=2, norm="batch", activation="leaky_relu", dropout=0.1),
                cfg.Conv(6, 3, stride=2, padding=1, activation="silu"),
            ),
            aggregate="flatten",
            head=cfg.Head(dropout=0.5, hidden=(cfg.Dense(12, norm="batch", dropout=0.1), cfg.Dense(8))),
        ),
        (16, 20),
        1,
    ),
    "cnn_average": (
        cfg.CNN(convs=(cfg.Conv(4, 3, activation="tanh"),), aggregate="average", head=LINEAR, init="xavier_normal"),
        (8, 8),
        3,
    ),
    "resnet18": (cfg.ResNet("resnet18", cfg.Head(dropout=0.5, batch_norm=True), stochastic_depth=0.2), (32, 32), 3),
    "resnet18_cifar": (cfg.ResNet("resnet18", LINEAR, stem="cifar"), (8, 8), 4),
    "cifar_resnet20": (MODELS["cifar_resnet20"], (8, 12), 3),
    "cifar_resnet20_b": (cfg.CifarResNet(20, LINEAR, shortcut="B"), (8, 8), 1),
    "wrn10_2": (cfg.WideResNet(10, 2, LINEAR, dropout=0.3), (8, 8), 3),
    "squeezenet1_0": (cfg.SqueezeNet("1_0"), (33, 40), 3),
    "squeezenet1_1": (cfg.SqueezeNet("1_1"), (32, 32), 3),
    "airbench": (cfg.Airbench((4, 6, 6)), (9, 12), 1),
    "dinov2_small": (
        cfg.DINOv2("small", LINEAR, registers=True, features="cls_patch_mean", stochastic_depth=0.1),
        (28, 42),
        3,
    ),
}
SLOW = {
    "resnet50": (cfg.ResNet("resnet50", LINEAR), (32, 32), 3),
    "resnet50_v1": (cfg.ResNet("resnet50", LINEAR, downsample_in="conv1", zero_init_residual=False), (32, 32), 3),
    "resnext50_32x4d": (MODELS["resnext50_32x4d"], (32, 32), 3),
    "dinov2_base": (MODELS["dinov2_vitb14"], (28, 28), 3),
}
CASES = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
CLASSES = 5
BATCH = 4


def make(config, image_size, channels, dtype=jnp.float32):
    return build(config, num_classes=CLASSES, channels=channels, image_size=image_size, dtype=dtype, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(config, images, model, and a jitted function that gives logits, gradients and new statistics)."""
    config, image_size, channels = (SMALL | SLOW)[request.param]
    model = make(config, image_size, channels)
    x = np.random.default_rng(0).standard_normal((BATCH, *image_size, channels)).astype(np.float32)
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def step(params, stats, x, key):
        def loss(params):
            merged = nnx.merge(graphdef, params, stats)
            logits = merged(x, rngs=nnx.Rngs(key))
            labels = jnp.arange(BATCH) % CLASSES
            losses = -jax.nn.log_softmax(logits)[jnp.arange(BATCH), labels]
            return losses.mean(), (logits, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

        grads, (logits, stats) = jax.grad(loss, has_aux=True)(params)
        return logits, grads, stats

    return config, x, model, step, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name):
    classes, side = (10, 32) if name.startswith(("cifar", "wrn", "airbench")) else (1000, 224)
    model = nnx.eval_shape(
        lambda: build(
            MODELS[name],
            num_classes=classes,
            channels=3,
            image_size=(side, side),
            dtype=jnp.float32,
            rngs=nnx.Rngs(0),
        )
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == PUBLISHED[name]


def test_tables_are_complete():
    assert PUBLISHED.keys() == MODELS.keys()
    assert {config.family for config in MODELS.values()} | {"cnn"} == FAMILIES.keys()


def test_training_step(case):
    """Shapes, one compilation, a gradient at every parameter, and moved statistics."""
    _, x, _, step, params, stats = case
    logits, grads, new_stats = step(params, stats, x, jax.random.key(0))
    step(params, new_stats, 2 * x, jax.random.key(1))
    assert step._cache_size() == 1
    assert logits.shape == (BATCH, CLASSES)
    assert logits.dtype == jnp.float32
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    for path, grad in jax.tree.leaves_with_path(grads):
        assert jnp.isfinite(grad).all(), jax.tree_util.keystr(path)
        assert jnp.any(grad != 0), jax.tree_util.keystr(path)
    assert jax.tree.structure(new_stats) == jax.tree.structure(stats)
    for path, (old, new) in jax.tree.leaves_with_path(
        jax.tree.map(lambda *pair: pair, stats, new_stats), is_leaf=lambda node: isinstance(node, tuple)
    ):
        assert jnp.any(old != new), jax.tree_util.keystr(path)


def test_modes_differ_only_where_they_should(case):
    """Training with the randomness off and by running statistics is evaluation, and leaves no trace."""
    _, x, model, _, params, stats = case

    def run(rngs=None, **modes):
        graphdef = nnx.split(nnx.view(model, raise_if_not_found=False, **modes))[0]

        @jax.jit
        def logits(params, stats):
            merged = nnx.merge(graphdef, params, stats)
            return merged(x, rngs=rngs), nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))

        return logits(params, stats)

    logits, after = run(deterministic=True, use_running_average=True, update_running=False)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    again, moved = run(deterministic=True, use_running_average=True, update_running=True)
    np.testing.assert_allclose(again, logits, rtol=1e-5, atol=1e-5)
    if stats:
        batch, after = run(deterministic=True, use_running_average=False, update_running=False)
        jax.tree.map(np.testing.assert_array_equal, after, stats)
        assert not np.allclose(batch, logits)
        assert not np.allclose(jax.tree.leaves(moved)[0], jax.tree.leaves(stats)[0])


def test_bfloat16_keeps_parameters_statistics_and_logits_float32(case):
    config, x, *_ = case
    model = nnx.eval_shape(lambda: make(config, x.shape[1:3], x.shape[3], jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    maps = nnx.eval_shape(lambda m: m.stages(jnp.asarray(x), rngs=nnx.Rngs(0)), model)
    assert maps.pop("head").dtype == jnp.float32
    assert {value.dtype for value in maps.values()} == {jnp.dtype("bfloat16")}


def test_stages_end_with_the_logits(case):
    _, x, model, *_ = case
    names = []

    def run(m):
        maps = m.stages(jnp.asarray(x), rngs=nnx.Rngs(0))
        names.extend(maps)
        return maps

    maps = nnx.eval_shape(run, model)
    assert names[-1] == "head"
    assert all(value.shape[0] == BATCH for value in maps.values())


def test_state_round_trip(case):
    """split → nested dict → merge gives the same model, and dicts have integer keys only inside lists."""
    _, _, model, _, params, stats = case
    graphdef, state = nnx.split(model)
    merged = nnx.merge(graphdef, params, stats)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(merged)), nnx.to_pure_dict(state))
    assert all(isinstance(key, str) for key in params)
    assert "out" in params["head"]
