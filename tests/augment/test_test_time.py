"""Evaluation, test-time views, de-normalization, the contact sheet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import augment
from imgcls_jax.augment.contact_sheet import contact_sheet
from imgcls_jax.augment.test_time import average, stack_views

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
evaluation = jax.jit(augment.prepare_for_evaluation, static_argnames=("image_size", "mean", "std"))


def test_evaluation_is_the_normalized_center(photos):
    ours = evaluation(jnp.asarray(photos), image_size=(20, 21), mean=MEAN, std=STD)
    center = photos[:, 5:25, 8:29]  # 8.5 goes to the even 8
    np.testing.assert_allclose(ours, (center / 255 - MEAN) / STD, atol=1e-5)
    np.testing.assert_array_equal(augment.denormalize(ours, MEAN, STD), center)


@pytest.mark.parametrize("size", [(30, 38), (29, 35), (27, 33), (25, 31)])
def test_center_crop_equals_torchvisions(photos, size, torchvision_reference):
    import torch
    from torchvision.transforms.v2 import functional

    expected = functional.center_crop(torch.from_numpy(photos.transpose(0, 3, 1, 2)), list(size)).numpy()
    ours = evaluation(jnp.asarray(photos), image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    np.testing.assert_array_equal(np.round(np.asarray(ours) * 255), expected.transpose(0, 2, 3, 1))


def test_evaluation_refuses_a_small_canvas(photos):
    with pytest.raises(ValueError, match="31×20 out of 30×38"):
        evaluation(jnp.asarray(photos), image_size=(31, 20), mean=MEAN, std=STD)


def test_ten_crop(photos):
    seen = np.round(
        np.asarray(stack_views(jnp.asarray(photos), "ten_crop", image_size=(10, 12), mean=(0.0,), std=(1.0,))) * 255
    )
    for half, x in enumerate((photos, photos[:, :, ::-1])):
        crops = [x[:, :10, :12], x[:, :10, 26:], x[:, 20:, :12], x[:, 20:, 26:], x[:, 10:20, 13:25]]
        np.testing.assert_array_equal(seen[5 * half : 5 * half + 5], np.stack(crops))


def test_flip_views(photos):
    seen = stack_views(jnp.asarray(photos), "flip", image_size=(30, 38), mean=MEAN, std=STD)
    assert seen.shape == (2, 2, 30, 38, 3)
    np.testing.assert_array_equal(seen[1], seen[0][:, :, ::-1])


def test_flip_shift_views(photos):
    """airbench's translations: windows of the image padded by one reflected pixel, at its far and its near corner."""
    seen = (
        np.asarray(stack_views(jnp.asarray(photos), "flip_shift", image_size=(30, 38), mean=(0.0,), std=(1.0,))) * 255
    )
    padded = np.pad(photos, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moved = np.stack([photos, padded[:, 2:32, 2:40], padded[:, 0:30, 0:38]])
    np.testing.assert_array_equal(np.round(seen), np.concatenate([moved, moved[:, :, :, ::-1]]))


@pytest.mark.parametrize(("classes", "sigmoid"), [(1, True), (4, True), (4, False)])
def test_average_of_views_is_of_probabilities(classes, sigmoid):
    logits = 3 * jax.random.normal(jax.random.key(0), (5, 6, classes))
    probability = jax.nn.sigmoid if sigmoid else jax.nn.softmax
    mean = probability(logits).mean(axis=0)
    np.testing.assert_allclose(probability(average(logits, sigmoid=sigmoid)), mean, atol=1e-6)


def test_contact_sheet_shows_the_pixels_that_the_model_sees(photos):
    after = np.stack([augment.normalize(jnp.asarray(photos[:, :20, :24]) / 255, MEAN, STD)] * 3)
    soft = np.full((3, 2, 2), 0.5)
    soft[0] = np.eye(2)
    sheet = np.asarray(contact_sheet(photos, after, np.array([0, 1]), soft, ["temple", "flower"], MEAN, STD))
    factor = -(-96 // max(photos.shape[1:3]))  # small images are enlarged, pixel by pixel
    for picture in (photos[0], photos[1], photos[0, :20, :24]):
        picture = picture.repeat(factor, 0).repeat(factor, 1)
        windows = np.lib.stride_tricks.sliding_window_view(sheet, picture.shape)[:, :, 0]
        assert (windows[:, :, 0, 0, 0] == picture[0, 0, 0]).any()
        corner = np.argwhere((sheet[: -len(picture), : -picture.shape[1]] == picture[0, 0]).all(-1))
        assert any(np.array_equal(sheet[y : y + len(picture), x : x + picture.shape[1]], picture) for y, x in corner)
