"""Mixup and CutMix: pixels, label mass, and the gradients that mixed labels give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.augment import mixing
from imgcls_jax.augment.windows import Window

CLASSES = 5
LABEL = jnp.asarray([0, 3, 1, 1])


@pytest.fixture
def batch():
    image = jax.random.normal(jax.random.key(0), (4, 6, 10, 3))
    return image, jax.nn.one_hot(LABEL, CLASSES)


def test_mixup_is_the_weighted_mean_with_the_neighbor(batch):
    image, label = batch
    mixed, labels = mixing.mix(image, label, mixing.Shares(jnp.full((1, 1), 0.7), jnp.asarray(0.7)))
    for i in range(4):
        np.testing.assert_allclose(mixed[i], 0.7 * image[i] + 0.3 * image[i - 1], atol=1e-6)
    np.testing.assert_allclose(labels[1], [0.3, 0, 0, 0.7, 0], atol=1e-6)


def test_cutmix_pastes_the_neighbors_rectangle_and_labels_by_its_area(batch):
    image, label = batch
    window = Window(*(jnp.asarray(side) for side in (1, 4, 3, 5)))
    mixed, labels = mixing.mix(image, label, mixing.cut(window, (6, 10)))
    expected = np.array(image)
    expected[:, 1:4, 4:9] = np.roll(image, 1, axis=0)[:, 1:4, 4:9]
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(labels[1], [0.25, 0, 0, 0.75, 0], atol=1e-6)


def test_label_is_the_share_of_pixels_and_its_mass_is_one(batch):
    image, label = batch
    for seed in range(20):
        key = jax.random.key(seed)
        for params in (mixing.draw_mixup(key, 0.2), mixing.draw_cutmix(key, 1.0, (6, 10))):
            np.testing.assert_allclose(params.label, params.own.mean(), atol=1e-6)
            assert 0 <= params.label <= 1
            labels = mixing.mix(image, label, params)[1]
            np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
            np.testing.assert_allclose(labels.sum(axis=0), label.sum(axis=0), atol=1e-5)  # and each class's mass


def test_equals_torchvision(batch, torchvision_reference):
    import torch
    from torchvision.transforms import v2

    image, label = batch
    x = torch.from_numpy(np.array(image).transpose(0, 3, 1, 2))
    y = torch.from_numpy(np.asarray(LABEL).astype(np.int64))

    def theirs(transform, params):
        params = dict(params, labels=y, batch_size=4)
        pixels, labels = transform.transform(x, params), transform.transform(y, params)
        return pixels.numpy().transpose(0, 2, 3, 1), labels.numpy()

    window = Window(*(jnp.asarray(side) for side in (1, 4, 3, 5)))
    cut = dict(box=(4, 1, 9, 4), lam_adjusted=0.75)
    for params, reference in (
        (mixing.Shares(jnp.full((1, 1), 0.7), jnp.asarray(0.7)), theirs(v2.MixUp(num_classes=CLASSES), dict(lam=0.7))),
        (mixing.cut(window, (6, 10)), theirs(v2.CutMix(num_classes=CLASSES), cut)),
    ):
        for ours, expected in zip(mixing.mix(image, label, params), reference, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_gradient_of_the_mixed_label_is_the_mix_of_the_gradients(batch):
    """d/dz of the cross-entropy with labels t is softmax(z) − t."""
    _, label = batch
    labels = mixing.mix(jnp.zeros((4, 1, 1, 1)), label, mixing.draw_mixup(jax.random.key(1), 0.5))[1]
    logits = jax.random.normal(jax.random.key(2), (4, CLASSES))
    gradient = jax.grad(lambda z: -(labels * jax.nn.log_softmax(z)).sum())(logits)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - labels, atol=1e-6)


def test_gradient_equals_torchs_cross_entropy_with_soft_labels(batch):
    torch = pytest.importorskip("torch")
    _, label = batch
    labels = mixing.mix(jnp.zeros((4, 6, 10, 1)), label, mixing.draw_cutmix(jax.random.key(3), 1.0, (6, 10)))[1]
    logits = jax.random.normal(jax.random.key(2), (4, CLASSES))
    gradient = jax.grad(lambda z: -(labels * jax.nn.log_softmax(z)).sum(axis=1).mean())(logits)
    z = torch.tensor(np.array(logits), requires_grad=True)
    torch.nn.functional.cross_entropy(z, torch.tensor(np.array(labels))).backward()
    np.testing.assert_allclose(gradient, z.grad, atol=1e-6)
