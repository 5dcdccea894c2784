"""Every family as ONNX: onnxruntime computes what JAX does."""

import dataclasses
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.export.onnx.write import convert
from imgcls_jax.export.program import OUTPUTS, Program
from imgcls_jax.models import architectures, network
from imgcls_jax.record import documents
from imgcls_jax.weights import paths

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MODELS = architectures()
LINEAR = c.Head()
CNN = c.CNN(
    convs=(
        c.Conv(4, 5, pool=2, norm="batch", activation="leaky_relu"),
        c.Conv(6, 3, stride=2, padding=1, activation="silu"),
        c.Conv(6, 1, activation="tanh"),
    ),
    aggregate="flatten",
    head=c.Head(hidden=(c.Dense(12, norm="batch"),)),
)
# Model, image size, canvas, channels, views, most nodes: those that were counted, so that a lost pattern is seen. The
# preprocessing (4) and the softmax are among them.
FAMILIES = {
    "cnn": (CNN, (16, 20), (16, 20), 1, None, 19),
    "cifar_resnet": (MODELS["cifar_resnet20"], (16, 16), (16, 16), 3, None, 57),
    "cifar_resnet_flip": (MODELS["cifar_resnet20"], (16, 16), (16, 16), 3, "flip", 93),
    "wide_resnet": (c.WideResNet(10, 1, LINEAR), (16, 16), (16, 16), 3, None, 29),
    "squeezenet": (MODELS["squeezenet1_1"], (32, 36), (32, 36), 3, None, 68),
    "airbench_shifts": (c.Airbench((4, 6, 6)), (12, 12), (12, 12), 3, "flip_shift", 112),
}
SLOW = {
    "resnet": (c.ResNet("resnet18", LINEAR), (32, 32), (40, 36), 3, None, 53),
    "dinov2_registers": (
        c.DINOv2("small", LINEAR, registers=True, features="cls_patch_mean"),
        (28, 42),
        (28, 42),
        3,
        None,
        464,
    ),
    "lite0_ten_crops": (MODELS["efficientnet_lite0"], (32, 32), (40, 40), 3, "ten_crop", 192),
}
DEEP = {
    "resnext": (MODELS["resnext50_32x4d"], (32, 32), (32, 32), 3, None, 126),
    "resnet50": (MODELS["resnet50"], (224, 224), (256, 256), 3, None, 126),
    "dinov2": (MODELS["dinov2_vits14"], (224, 224), (224, 224), 3, None, 459),
}


def program(model, image_size, canvas, channels, views, *, classes=7, loss=None) -> Program:
    """Make a program with statistics of BatchNorm that are not 0 and 1."""
    config = c.Config(
        name="exported",
        data=c.Data(
            source=c.Arrays(),
            canvas=c.Canvas(*canvas, channels=channels),
            image_size=image_size,
            mean=(0.4, 0.5, 0.6)[:channels],
            std=(0.2, 0.25, 0.3)[:channels],
        ),
        augment=(),
        model=model,
        loss=loss or c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.1, shape=c.Constant())),
        batch_size=2,
        epochs=1,
        precision="fp32",
        seed=0,
    )
    shapes = jax.eval_shape(network.of_config(config, classes).create, jax.random.key(0))
    rng = np.random.default_rng(0)

    def values(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith(("var", "scale", "gamma")):
            return rng.uniform(0.5, 1.5, shape).astype("f")
        fan_in = max(int(np.prod(shape[:-1])), 1) if path.endswith("kernel") else 25
        return (rng.normal(0, 1, shape) / fan_in**0.5).astype("f")

    params, stats = ({path: values(path, x.shape) for path, x in paths.flatten(tree).items()} for tree in shapes)
    names = tuple(f"class {label}" for label in range(classes))
    return Program.of(config, names, params, stats, documents.model_card(config, names, None), views)


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.mark.parametrize(
    "case",
    [
        *FAMILIES.values(),
        *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW.values()),
        *(pytest.param(case, marks=[pytest.mark.slow, pytest.mark.deep]) for case in DEEP.values()),
    ],
)
def test_onnxruntime_computes_what_jax_does(case):
    """To 2e-6 of the largest logit, in batches of 1 and 5 of one file, of few nodes."""
    *settings, most_nodes = case
    made = program(*settings)
    model = convert(made.function, made.shape, OUTPUTS, made.sizes, "test")
    run = session(model).run
    images = np.random.default_rng(0).integers(0, 256, (5, *made.shape), np.uint8)
    expected = [np.asarray(output) for output in jax.jit(made.function)(images)]
    for count in (1, 5):
        probabilities, logits = run(list(OUTPUTS), {"image": images[:count]})
        assert np.abs(logits - expected[1][:count]).max() <= 2e-6 * np.abs(expected[1]).max()
        np.testing.assert_allclose(probabilities, expected[0][:count], atol=2e-6)
    operators = Counter(node.op_type for node in model.graph.node)
    assert sum(operators.values()) <= most_nodes, operators
    assert model.opset_import[0].version == 18


def test_batch_norm_vanishes_in_the_convolution_before_it():
    made = program(*SLOW["resnet"][:-1])
    model = convert(made.function, made.shape, OUTPUTS, made.sizes, "test")
    operators = Counter(node.op_type for node in model.graph.node)
    # One is left: the normalization of the image, before a convolution that pads with zeros.
    assert operators["BatchNormalization"] == 1
    assert operators["Transpose"] == 1


class Sorting(c.Model):
    """A model of a user's own with an operation that ONNX has no rule for here."""

    def build(self, *, num_classes, channels, image_size, dtype, rngs):
        class Sorted(nnx.Module):
            def __call__(self, x, *, rngs=None):
                return jnp.sort(x, axis=-1)

        class Module(nnx.Module):
            def __init__(self):
                self.inner = Sorted()
                self.head = nnx.Linear(channels, num_classes, rngs=rngs)

            def __call__(self, x, *, rngs=None):
                return self.head(self.inner(x.mean((1, 2))))

        return Module()


def test_unknown_operation_names_itself_and_its_layer():
    made = program(Sorting(), (8, 8), (8, 8), 3, None)
    with pytest.raises(UserError, match=r"the layer inner uses JAX's operation sort"):
        convert(made.function, made.shape, OUTPUTS, made.sizes, "test")


def test_one_sigmoid_output_gives_two_probabilities():
    model = dataclasses.replace(CNN, head=c.Head(sigmoid=True))
    made = program(model, (16, 20), (16, 20), 1, None, classes=2, loss=c.BinaryCrossEntropy())
    assert made.sizes == (2, 1)
    run = session(convert(made.function, made.shape, OUTPUTS, made.sizes, "test")).run
    probabilities, logits = run(list(OUTPUTS), {"image": made.golden_images})
    np.testing.assert_allclose(probabilities[:, 1:], 1 / (1 + np.exp(-logits.astype(float))), atol=1e-6)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: (x.astype(jnp.float32).transpose(0, 3, 1, 2).reshape(x.shape[0], -1),), (4, 6, 3)),
        (lambda x: (jnp.flip(x.astype(jnp.float32), 2)[:, 1::2, :, 0].sum(2),), (4, 6, 3)),
        (lambda x: (nnx.avg_pool(x.astype(jnp.float32), (2, 3), (2, 3)).reshape(x.shape[0], -1),), (4, 6, 3)),
        (lambda x: (jnp.einsum("bhwc,hk->bk", x.astype(jnp.float32), jnp.arange(8.0).reshape(4, 2)),), (4, 6, 3)),
        (lambda x: (jnp.where(x > 100, jnp.log1p(x.astype(jnp.float32)), -1.5).max((1, 3)) ** 3,), (4, 6, 3)),
        (lambda x: (jnp.pad(x.astype(jnp.float32), ((0, 0), (0, 0), (2, 1), (0, 0)))[:, 0, :, 1],), (4, 6, 3)),
        (lambda x: (jnp.stack([x.astype(jnp.float32).mean((1, 2)), jnp.ones((x.shape[0], 3))], 2)[:, 1],), (4, 6, 3)),
        (lambda x: (x.astype(jnp.float32)[:, :, jnp.array([0, 3, 3]), 2].sum(1) / 7 - jnp.arange(3.0),), (4, 6, 3)),
        (lambda x: (jax.nn.softmax(x.astype(jnp.float32).mean((1, 3)) / 9) @ jnp.ones((6, 2)) * 2 + 1,), (4, 6, 3)),
        (lambda x: (jnp.clip(nnx.relu(x.astype(jnp.float32) - 90).mean((1, 2)), 3, 20),), (4, 6, 3)),
    ],
)
def test_operations_of_users_models(function, shape):
    """What no network here does, against JAX."""
    size = jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape), np.uint8))[0].shape[1]
    run = session(convert(function, shape, ["out"], [size], "test")).run
    for count in (1, 3):
        images = np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)
        np.testing.assert_allclose(run(["out"], {"image": images})[0], function(jnp.asarray(images))[0], rtol=1e-5)


def test_depends_on_no_place_of_this_machine():
    made = program(*FAMILIES["cnn"][:-1])
    model = convert(made.function, made.shape, OUTPUTS, made.sizes, "test")
    assert not re.search(rb"/home|/work|/tmp|\.py", model.SerializeToString())
