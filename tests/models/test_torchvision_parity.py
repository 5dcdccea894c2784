"""Our models against torchvision's own, with the same random weights.

In float64, where rounding cannot hide a mistake, nor a ReLU that flips on a rounding error pretend one.
"""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from model_reference import HEADS, error, fill, fill_torch, images, import_torchvision, our_run, torch_run

from imgcls_jax.config import Head, ResNet
from imgcls_jax.models import architectures

slow = [pytest.mark.slow, pytest.mark.deep]
NAMES = [
    pytest.param("resnet18", marks=slow),  # its stored outputs are in test_golden.py
    pytest.param("resnet34", marks=slow),
    pytest.param("resnet50", marks=slow),
    pytest.param("resnet101", marks=slow),
    pytest.param("resnet152", marks=slow),
    pytest.param("resnext50_32x4d", marks=slow),
    pytest.param("resnext101_32x8d", marks=slow),
    pytest.param("resnext101_64x4d", marks=slow),
    pytest.param("wide_resnet50_2", marks=slow),
    pytest.param("wide_resnet101_2", marks=slow),
    pytest.param("squeezenet1_0", marks=slow),
    pytest.param("squeezenet1_1", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(
    "train", [pytest.param(False, id="eval", marks=pytest.mark.deep), pytest.param(True, id="train")]
)
@pytest.mark.parametrize("name", NAMES)
def test_matches_torchvision(name, train):
    """Every stage, every parameter's gradient, and every running statistic after the step."""
    torchvision = import_torchvision()
    theirs = getattr(torchvision.models, name)(num_classes=7).double()
    check(architectures()[name], theirs, train=train)


@pytest.mark.slow
@pytest.mark.deep
def test_stride_in_the_first_convolution_and_zero_residual_are_v1():
    """ResNet v1 has the stride in conv1; torchvision's blocks can be changed to that."""
    torchvision = import_torchvision()
    theirs = torchvision.models.resnet50(num_classes=7).double()
    for layer in (theirs.layer2, theirs.layer3, theirs.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    check(ResNet("resnet50", Head(), downsample_in="conv1"), theirs, train=False)


def check(config, theirs, *, train):
    fill_torch(theirs)
    for module in theirs.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    x = images((4, 48, 64, 3)).astype("float64")
    expected = torch_run(theirs, x, train=train)
    with jax.enable_x64(True):
        model = config.build(num_classes=7, channels=3, image_size=(48, 64), dtype=jnp.float64, rngs=nnx.Rngs(0))
        model = fill(model, config.kind(), jnp.float64)
        actual = our_run(model, x, config.kind(), train=train)

    head = "classifier" if config.kind() == "SqueezeNet" else HEADS[config.kind()]
    for stage, value in actual["stages"].items():
        if stage != "relu":  # torchvision uses one ReLU many times: its hook saw the last
            reference = expected["stages"][head if stage == "head" else stage].reshape(value.shape)
            assert error(value, reference) < 1e-10, stage
    for kind in ("grads", "stats"):
        assert actual[kind].keys() == expected[kind].keys()
        for name, value in actual[kind].items():
            assert error(value, expected[kind][name]) < 1e-8, (kind, name)
