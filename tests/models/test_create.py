"""Networks by name, from files that torch's names are in."""

import doctest

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import models, weights
from imgcls_jax.errors import UserError
from imgcls_jax.models import create

IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3)), jnp.float32)


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory):
    """A file of random weights for 10 classes, and their logits of IMAGES."""
    config = models.architectures()["cifar_resnet20"]
    model = config.build(num_classes=10, channels=3, image_size=(32, 32), dtype=jnp.float32, rngs=nnx.Rngs(7))
    for _, part in nnx.iter_modules(model):
        if hasattr(part, "var"):
            part.mean[...] += 0.1
            part.var[...] *= 1.5
    params, stats = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    file = tmp_path_factory.mktemp("weights") / "resnet20.pth"
    weights.save_pth(weights.to_state_dict(params, stats, config), file)
    return file, np.asarray(nnx.view(model, use_running_average=True, update_running=False)(IMAGES))


@pytest.mark.slow
def test_the_examples_of_the_docstrings():
    assert doctest.testmod(create).attempted >= 6
    assert doctest.testmod(create).failed == 0


def test_lists_by_wildcard():
    assert models.list_models("squeeze*") == ["squeezenet1_0", "squeezenet1_1"]
    assert models.list_models() == sorted(models.architectures())
    assert models.list_models(weights=True) == sorted(weights.published())
    assert models.list_models("nothing*") == []


def test_every_published_file_is_of_a_known_architecture():
    assert {entry.model for entry in weights.published().values()} <= set(models.list_models())


@pytest.mark.slow
def test_weights_of_a_file_give_its_logits_and_its_number_of_classes(resnet20):
    file, logits = resnet20
    for given in (file, str(file)):
        model, preprocessing = models.create_model("cifar_resnet20", weights=given)
        np.testing.assert_allclose(model(IMAGES), logits, rtol=1e-5, atol=1e-5)
    assert preprocessing == weights.Preprocessing(None, 32, "none")


@pytest.mark.slow
def test_another_number_of_classes_starts_a_new_head(resnet20):
    file, _ = resnet20
    made = [models.create_model("cifar_resnet20", num_classes=3, weights=file, seed=seed)[0] for seed in (0, 0, 1)]
    loaded = models.create_model("cifar_resnet20", weights=file)[0]
    for model in made:
        assert model(IMAGES).shape == (2, 3)
        np.testing.assert_array_equal(model.layer3[2].conv2.kernel[...], loaded.layer3[2].conv2.kernel[...])
        np.testing.assert_array_equal(model.layer3[2].bn2.var[...], loaded.layer3[2].bn2.var[...])
    first, again, other = (np.asarray(model.head.out.kernel[...]) for model in made)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_modes_and_dtype():
    model, _ = models.create_model("cifar_resnet20", num_classes=4, dtype="bfloat16", channels=1)
    images = IMAGES[..., :1]
    logits = model(images)
    assert (logits.shape, logits.dtype) == ((2, 4), jnp.float32)
    assert model.stages(images)["layer1.0"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(model.bn1.var[...], 1)
    nnx.view(model, use_running_average=False, update_running=True)(images)


@pytest.mark.parametrize(
    ("name", "settings", "crop", "resize", "mean"),
    [
        ("resnet50", {}, 224, 232, weights.IMAGENET_MEAN),
        ("resnet50", {"image_size": 112}, 112, 116, weights.IMAGENET_MEAN),
        ("dinov2_vits14", {"image_size": 28}, 28, 32, weights.IMAGENET_MEAN),
        ("wrn28_10", {}, 32, None, weights.IMAGENET_MEAN),
        ("cifar_resnet20", {"channels": 1}, 32, None, (0.5,)),
    ],
)
def test_preprocessing(name, settings, crop, resize, mean):
    made = create._preprocessing(name, None, settings.get("channels", 3), settings.get("image_size"))
    assert (made.crop, made.resize, made.mean) == (crop, resize, mean)


def test_mistakes_are_one_sentence(resnet20, tmp_path):
    file, _ = resnet20
    headless = {name: array for name, array in weights.read(file).items() if not name.startswith("linear")}
    weights.save_pth(headless, tmp_path / "headless.pth")
    cases = [
        (("resnet5",), {}, r'^there is no architecture \'resnet5\' \(did you mean "resnet50"\?\): see .*list_models'),
        (("resnet18",), {"weights": "torchvision/resnet50.IMAGENET1K_V2"}, "are weights of resnet50, not of resnet18"),
        (("resnet18",), {"weights": "torchvision/resnet18.IMAGENET1K_V3"}, "did you mean"),
        (("cifar_resnet20",), {"weights": "nothing.pth"}, "there is no weight file nothing.pth"),
        (("cifar_resnet20",), {"weights": tmp_path / "headless.pth"}, "has no output layer: give the number of"),
        (("cifar_resnet20",), {"dtype": "float3"}, "dtype is 'float3', but"),
        (("cifar_resnet20",), {"dtype": "int32"}, "dtype is 'int32', but"),
        (("squeezenet1_1",), {"image_size": 8}, "use larger images"),
        (("cifar_resnet32",), {"weights": file}, "does not fit the model"),
    ]
    for arguments, settings, message in cases:
        with pytest.raises(UserError, match=message):
            models.create_model(*arguments, **settings)
