"""What holds for every architecture."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from imgcls_jax import config as cfg
from imgcls_jax.doctor import contract
from imgcls_jax.models import architectures

LINEAR = cfg.Head()
MODELS = architectures()

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
    # As the torch networks of efficientnet-lite-pytorch count them.
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
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
    "resnet18_cifar": (cfg.ResNet("resnet18", LINEAR, stem="cifar"), (8, 8), 4),
    "cifar_resnet20": (MODELS["cifar_resnet20"], (8, 12), 3),
    "cifar_resnet20_b": (cfg.CifarResNet(20, LINEAR, shortcut="B"), (8, 8), 1),
    "wrn10_2": (cfg.WideResNet(10, 2, LINEAR, dropout=0.3), (8, 8), 3),
    "squeezenet1_1": (cfg.SqueezeNet("1_1"), (32, 32), 3),
    "airbench": (cfg.Airbench((4, 6, 6)), (9, 12), 1),
    "dinov2_small": (
        cfg.DINOv2("small", LINEAR, registers=True, features="cls_patch_mean", stochastic_depth=0.1),
        (28, 42),
        3,
    ),
}
SLOW = {
    "resnet18": (cfg.ResNet("resnet18", cfg.Head(dropout=0.5, batch_norm=True), stochastic_depth=0.2), (32, 32), 3),
    "squeezenet1_0": (cfg.SqueezeNet("1_0"), (33, 40), 3),
    "resnet50": (cfg.ResNet("resnet50", LINEAR), (32, 32), 3),
    "resnet50_v1": (cfg.ResNet("resnet50", LINEAR, downsample_in="conv1", zero_init_residual=False), (32, 32), 3),
    "resnext50_32x4d": (MODELS["resnext50_32x4d"], (32, 32), 3),
    "efficientnet_lite0": (cfg.EfficientNetLite("lite0", LINEAR, stochastic_depth=0.2), (32, 33), 3),
    "dinov2_base": (MODELS["dinov2_vitb14"], (28, 28), 3),
}
# Variants of others in the list, which compile for a minute each.
DEEP = {
    "resnet18_cifar",
    "cifar_resnet20_b",
    "squeezenet1_0",
    "efficientnet_lite0",
    "resnet50",
    "resnet50_v1",
    "resnext50_32x4d",
    "dinov2_base",
    "dinov2_small",
    "resnet18",
}
slow = [pytest.mark.slow]
CASES = [
    pytest.param(name, marks=[pytest.mark.deep, *slow] if name in DEEP else slow if name in SLOW else [])
    for name in SMALL | SLOW
]
CLASSES = 5


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(config, image size, channels)."""
    return (SMALL | SLOW)[request.param]


def make(config, image_size, channels, dtype=jnp.float32):
    return config.build(num_classes=CLASSES, channels=channels, image_size=image_size, dtype=dtype, rngs=nnx.Rngs(0))


LARGE = ("resnet101", "resnet152", "resnext101", "wide_resnet", "cifar_resnet110", "dinov2_vitb", "dinov2_vitl")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow if name.startswith(LARGE) else []) for name in PUBLISHED]
)
def test_parameter_count_is_the_published_one(name):
    classes, side = (10, 32) if name.startswith(("cifar", "wrn", "airbench")) else (1000, 224)
    model = nnx.eval_shape(
        lambda: MODELS[name].build(
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
    named = {config.kind() for config in MODELS.values()}
    assert named | {"CNN"} == {kind for kind in cfg.Model.kinds() if ":" not in kind}


@pytest.mark.slow
def test_keeps_the_contract(case):
    config, image_size, channels = case
    findings = contract.check(config, num_classes=CLASSES, channels=channels, image_size=image_size)
    assert [finding for finding in findings if finding.problem] == []
    # A build, logits, dtypes, and all the others, stages and torch's names among them.
    assert len(findings) == 13


def test_stages_are_bfloat16_up_to_the_head(case):
    config, image_size, channels = case
    model = nnx.eval_shape(lambda: make(config, image_size, channels, jnp.bfloat16))
    x = jnp.zeros((2, *image_size, channels))
    maps = nnx.eval_shape(lambda m: m.stages(x, rngs=nnx.Rngs(0)), model)
    assert maps.pop("head").dtype == jnp.float32
    assert {value.dtype for value in maps.values()} == {jnp.dtype("bfloat16")}


def test_state_is_nested_dicts(case):
    """Keys are integers only inside lists, and the output layer is `head.out`."""
    model = nnx.eval_shape(lambda: make(*case))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert all(isinstance(key, str) for key in params)
    assert "out" in params["head"]


def test_stages_end_with_the_head_in_order(case):
    config, image_size, channels = case
    model = nnx.eval_shape(lambda: make(*case))
    names = []

    def run(m):
        maps = m.stages(jnp.zeros((2, *image_size, channels)), rngs=nnx.Rngs(0))
        names.extend(maps)
        return maps

    nnx.eval_shape(run, model)
    assert names[-1] == "head"


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if hasattr(model, "head")])
def test_a_file_s_output_layer_has_a_place_under_a_richer_head(name):
    """So that `transfer.replace` leaves it out."""
    rules = MODELS[name].torch_rules()
    theirs = next(found for rule in rules if (found := rule.name_of("head.out.kernel")))
    richer = dataclasses.replace(MODELS[name], head=cfg.Head(batch_norm=True)).torch_rules()
    path = next(found for rule in richer if (found := rule.path_of(theirs)))
    assert path == "head.out.kernel"
