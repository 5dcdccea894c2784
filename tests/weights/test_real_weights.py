"""Published weights on the images they were made for."""

import importlib.util
import io
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from weights_reference import import_torchvision, our_model

from imgcls_jax import weights
from imgcls_jax.models import architectures
from imgcls_jax.weights import published


def classifier(name, file, classes, image_size):
    """uint8 images [b, h, w, 3] → logits, normalized with ImageNet's statistics."""
    config = architectures()[name]
    graphdef, params, stats = our_model(config, image_size, classes)
    params, stats = weights.to_params(weights.read(file), config, params, stats)
    entry = next(entry for entry in published().values() if entry.model == name)
    mean, std = jnp.array(entry.preprocessing.mean), jnp.array(entry.preprocessing.std)

    @jax.jit
    def logits(x):
        model = nnx.merge(graphdef, params, stats)
        model = nnx.view(model, raise_if_not_found=False, use_running_average=True, update_running=False)
        return model((x / 255.0 - mean) / std)

    return logits


@pytest.fixture(scope="module")
def cifar10_test(real_data):
    path = real_data / "data" / "unpack.py"
    spec = importlib.util.spec_from_file_location("unpack", path)
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    return unpack.pixels("cifar10_test"), np.load(path.with_name("labels.npz"))["cifar10_test"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["akamaster/resnet20.CIFAR10", pytest.param("akamaster/resnet56.CIFAR10", marks=pytest.mark.deep)]
)
def test_cifar10_accuracy_is_the_published_one(real_data, cifar10_test, name):
    entry = published()[name]
    images, labels = cifar10_test
    logits = classifier(entry.model, real_data / "weights" / entry.file, 10, (32, 32))
    right = sum(int((np.argmax(logits(x), -1) == y).sum()) for x, y in _batches(images, labels))
    print(f"{name}: {right / 100:.2f} %")
    assert right / len(images) * 100 == pytest.approx(entry.top1, abs=0.02)


def _batches(images, labels, size=500):
    return ((images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size))


@pytest.fixture(scope="module")
def imagenette(real_data):
    """The 500 validation images [n, 224, 224, 3], their classes' numbers in ImageNet, and the ten numbers."""
    synsets = [line.split()[0] for line in (real_data / "weights" / "synset_words.txt").read_text().splitlines()]
    images, labels = [], []
    with tarfile.open(real_data / "data" / "imagenette_1500.tar") as archive:
        for member in archive:
            if member.isfile() and "/val/" in member.name:
                content = archive.extractfile(member).read()
                images.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
                labels.append(synsets.index(member.name.split("/")[2]))
    return np.stack(images), np.array(labels), sorted(set(labels))


def test_squeezenet_logits_equal_torchvisions(real_data, imagenette):
    torchvision = import_torchvision()
    import torch

    file = real_data / "weights" / "squeezenet1_1_fp16.npz"
    module = torchvision.models.squeezenet1_1()
    module.load_state_dict({k: torch.tensor(v.astype(np.float32)) for k, v in weights.read(file).items()})
    images = imagenette[0][::100]
    x = (images / np.float32(255) - np.float32(weights.IMAGENET_MEAN)) / np.float32(weights.IMAGENET_STD)
    with torch.no_grad():
        expected = module.eval()(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    ours = classifier("squeezenet1_1", file, 1000, (224, 224))(images)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_squeezenet_tells_imagenettes_classes_apart(real_data, imagenette):
    images, labels, ten = imagenette
    logits = classifier("squeezenet1_1", real_data / "weights" / "squeezenet1_1_fp16.npz", 1000, (224, 224))
    answers = np.concatenate([logits(x) for x, _ in _batches(images, labels, 100)])
    restricted = np.array(ten)[answers[:, ten].argmax(-1)]
    top1, among_all = (restricted == labels).mean(), (answers.argmax(-1) == labels).mean()
    print(f"SqueezeNet 1.1 on Imagenette: {top1:.1%} among ten classes, {among_all:.1%} among 1,000")
    assert top1 > 0.9
    # Published for all of ImageNet: 58.2 %. Three standard deviations of 500 images.
    assert among_all == pytest.approx(0.58178, abs=0.066)
