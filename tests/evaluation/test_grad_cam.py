"""Grad-CAM against torch written by hand, and which stage is taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax import models
from imgcls_jax.augment import test_time
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import grad_cam
from imgcls_jax.weights import paths


def made(config, *, seed=0, classes=3):
    """A random network of a config, and the function that explains with it."""
    network = models.network.of_config(config, classes)
    prepare, _ = test_time.build(config, None)
    return network.create(jax.random.key(seed)), network.evaluate, prepare


def test_maps_are_those_of_torch(tiny_config):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    layers = (c.Conv(5, 3, padding=1), c.Conv(7, 3, padding=1, pool=2))
    config = tiny_config(model=c.CNN(convs=layers, aggregate="average", head=c.Head()))
    variables, graph, prepare = made(config)
    params = {path: torch.tensor(np.asarray(x)) for path, x in paths.flatten(variables[0]).items()}
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels = np.array([0, 1, 2, 1], np.int32)

    x = (torch.tensor(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    for i in range(2):
        kernel = params[f"convs.{i}.conv.kernel"].permute(3, 2, 0, 1)
        x = functional.relu(functional.conv2d(x, kernel, params[f"convs.{i}.conv.bias"], padding=1))
    a = functional.max_pool2d(x, 2).requires_grad_()
    logits = a.mean((2, 3)) @ params["head.out.kernel"] + params["head.out.bias"]
    (gradient,) = torch.autograd.grad(logits.gather(1, torch.tensor(labels, dtype=torch.int64)[:, None]).sum(), a)
    cam = functional.relu((a * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True))
    expected = functional.interpolate(cam, size=(8, 8), mode="bilinear", align_corners=False)[:, 0].detach().numpy()

    found = jax.jit(grad_cam.build(graph, prepare=prepare))(variables, jnp.asarray(images), jnp.asarray(labels))
    assert expected.max() > 1e-3
    np.testing.assert_allclose(found.logits, logits.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(found.maps[0], expected, atol=1e-5)


def test_class_0_of_a_sigmoid_head_is_explained_by_the_negative_logit(tiny_config):
    one = c.CNN(convs=(c.Conv(5, 3, padding=1),), aggregate="average", head=c.Head(sigmoid=True))
    variables, graph, prepare = made(tiny_config(model=one), classes=2)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
    explain = jax.jit(grad_cam.build(graph, prepare=prepare))
    negative, positive = (explain(variables, images, jnp.full(2, label, jnp.int32)) for label in (0, 1))
    z = variables[0]["head"]["out"]["kernel"][:, 0]
    # Of an average the gradient is z_c / places, so that the map can be written by hand.
    model = nnx.merge(graph, *variables)
    a = np.asarray(model.stages(prepare(images))["convs.0"])
    for found, sign in ((negative, -1), (positive, 1)):
        np.testing.assert_allclose(found.maps[0], np.maximum((sign * a * z / 64).sum(-1), 0), atol=1e-5)


@pytest.mark.slow
def test_a_named_stage_is_taken_and_an_unknown_one_refused(tiny_config):
    layers = (c.Conv(5, 3, padding=1), c.Conv(5, 3, padding=1, pool=4))
    variables, graph, prepare = made(tiny_config(model=c.CNN(convs=layers, aggregate="flatten", head=c.Head())))
    images, labels = jnp.zeros((1, 8, 8, 3), jnp.uint8), jnp.zeros(1, jnp.int32)
    maps = {
        stage: np.asarray(grad_cam.build(graph, prepare=prepare, stage=stage)(variables, images, labels).maps)
        for stage in (None, "convs.0", "convs.1")
    }
    np.testing.assert_array_equal(maps[None], maps["convs.0"])  # of convs.1 2×2 places are left
    assert not np.allclose(maps["convs.0"], maps["convs.1"])
    with pytest.raises(UserError, match=r"no feature map 'head': this network has convs.0, convs.1"):
        grad_cam.build(graph, prepare=prepare, stage="head")(variables, images, labels)


@pytest.mark.slow
def test_a_patch_tells_only_through_the_attention_of_a_later_block(tiny_config):
    side = 42
    data = dataclasses.replace(tiny_config().data, canvas=c.Canvas(side, side), image_size=(side, side))
    variables, graph, prepare = made(tiny_config(model=c.DINOv2("small", c.Head(), registers=True), data=data))
    found = jax.jit(grad_cam.build(graph, prepare=prepare))(
        variables, jnp.zeros((1, side, side, 3), jnp.uint8), jnp.zeros(1, jnp.int32)
    )
    assert found.tells.tolist() == [False, False, True]  # "norm", the last block, the one before it


# The last stage of 3×3 places or more for images of 64 pixels (DINOv2: 42), worked out by hand from the strides.
FAMILIES = {
    "cnn": (c.CNN(convs=(c.Conv(4, 3, pool=2),), aggregate="average", head=c.Head()), "convs.0"),
    "resnet": (c.ResNet("resnet18", c.Head()), "layer3.1"),
    "cifar_resnet": (c.CifarResNet(20, c.Head()), "layer3.2"),
    "wide_resnet": (c.WideResNet(10, 1, c.Head()), "relu"),
    "squeezenet": (c.SqueezeNet("1_1"), "features.12"),
    "airbench": (c.Airbench(), "layer3"),
    "efficientnet_lite": (c.EfficientNetLite("lite0", c.Head()), "blocks.10"),
    "dinov2": (c.DINOv2("small", c.Head(), features="cls_patch_mean"), "norm"),
}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("efficientnet_lite", "dinov2") else [])
        for name in FAMILIES
    ],
)
def test_every_family_has_a_map(family, tiny_config):
    model, stage = FAMILIES[family]
    side = 42 if family == "dinov2" else 64
    data = dataclasses.replace(tiny_config().data, canvas=c.Canvas(side, side), image_size=(side, side))
    config = tiny_config(model=model, data=data)
    network = models.network.of_config(config, 3)
    prepare, _ = test_time.build(config, None)
    variables = jax.eval_shape(network.create, jax.random.key(0))
    images, labels = jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8), jax.ShapeDtypeStruct((2,), jnp.int32)
    shapes = {}

    def stages(variables, images):
        shapes.update({name: x.shape for name, x in nnx.merge(network.evaluate, *variables).stages(images).items()})

    jax.eval_shape(lambda variables, images: stages(variables, prepare(images)), variables, images)
    assert grad_cam._choose(shapes, (3, 3) if family == "dinov2" else None, None)[0] == stage
    found = jax.eval_shape(grad_cam.build(network.evaluate, prepare=prepare), variables, images, labels)
    assert found.maps.shape[1:] == (2, side, side)
