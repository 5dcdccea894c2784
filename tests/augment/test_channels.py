"""Augmentation of other channels and depths: each channel goes the way of a gray image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax.augment.normalization import prepare_for_evaluation
from imgcls_jax.errors import UserError

POLICY = (
    c.RandomResizedCrop(),
    c.HorizontalFlip(),
    c.VerticalFlip(),
    c.Rotation(20),
    c.GaussianBlur(3),
    c.ColorJitter(brightness=0.4),
    c.Cutout(4),
    c.Mixup(0.5),
)


@functools.cache
def built(channels: int):
    return jax.jit(
        augment.build(
            POLICY,
            epoch=0,
            image_size=(12, 10),
            mean=(0.4,) * channels,
            std=(0.2,) * channels,
            num_classes=3,
            fit="stretch",
        )
    )


def augmented(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(images)
    made, labels = built(images.shape[3])(
        jax.random.key(3), images, jnp.arange(count) % 3, jnp.ones(count), jnp.int32(0), jnp.arange(count)
    )
    return np.asarray(made), np.asarray(labels)


@pytest.mark.slow
def test_each_channel_is_changed_as_a_gray_image():
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 14, 5), np.uint8)
    together, labels = augmented(images)
    assert together.shape == (4, 12, 10, 5)
    for channel in range(5):
        alone, same = augmented(images[..., channel : channel + 1])
        np.testing.assert_allclose(together[..., channel], alone[..., 0], atol=2e-5)
        np.testing.assert_array_equal(labels, same)
    deep, _ = augmented(images.astype(np.uint16) * 257)
    np.testing.assert_allclose(deep, together, atol=2e-5)


def test_evaluation_scales_16_bits_from_black_to_white():
    images = np.random.default_rng(0).integers(0, 65536, (2, 6, 6, 4), np.uint16)
    mean, std = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)
    ours = prepare_for_evaluation(jnp.asarray(images), image_size=(4, 4), mean=mean, std=std)
    theirs = (images[:, 1:5, 1:5] / 65535 - mean) / std
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("operation", "channels", "depth", "words"),
    [
        (
            c.ColorJitter(saturation=0.1),
            5,
            8,
            "changes contrast, saturation or hue, which is for gray and RGB images",
        ),
        (
            c.ColorJitter(contrast=0.1),
            2,
            16,
            "changes contrast, saturation or hue, which is for gray and RGB images",
        ),
        (c.Grayscale(), 4, 8, "makes images gray, which is for gray and RGB images, not for canvas.channels=4"),
        (c.TrivialAugmentWide(), 5, 8, "changes colors, which is for gray and RGB images, not for canvas.channels=5"),
        (c.RandAugment(), 3, 16, "works on 256 levels of brightness, which would lose the 16 bits of canvas.depth=16"),
        (c.AutoAugment("cifar10"), 1, 16, "works on 256 levels"),
        (c.AugMix(), 6, 16, "changes colors"),
    ],
)
def test_what_is_for_pictures_alone_is_refused(operation, channels, depth, words):
    name = type(operation).__name__
    with pytest.raises(UserError) as caught:
        augment.check(
            (operation,), epochs=2, canvas=(8, 8), image_size=(8, 8), channels=channels, sigmoid=False, depth=depth
        )
    assert str(caught.value).startswith(f"augment[0] ({name}) {words}")


def test_other_operations_take_any_channels():
    for channels in (1, 2, 5, 16):
        augment.check(
            POLICY, epochs=2, canvas=(16, 14), image_size=(12, 10), channels=channels, sigmoid=False, depth=16
        )
