"""The operations that Pillow has, against Pillow, under the same parameters; tolerances in levels of 255."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imgcls_jax.augment import affine, auto_operations, color, crops, flips
from imgcls_jax.augment.lazy_image import LazyImage
from imgcls_jax.augment.windows import Window


def levels(ours, photos, reference):
    """Difference from what `reference` makes of each photo."""
    expected = np.stack([np.asarray(reference(Image.fromarray(photo)).convert("RGB"), np.float32) for photo in photos])
    return np.abs(np.asarray(ours) * 255 - expected)


@pytest.fixture
def image(photos):
    return jnp.asarray(photos, jnp.float32) / 255


def both(value):
    return jnp.full((2,), value)


@pytest.mark.parametrize("angle", [9.0, -30.0])
def test_rotation(image, photos, angle):
    matrix = affine.rotation_matrix(both(angle))
    ours = affine.warp(image, matrix)
    inside = np.asarray(affine.warp(jnp.ones_like(image), matrix)) > 1 - 1e-4
    difference = levels(ours, photos, lambda x: x.rotate(angle, Image.Resampling.BILINEAR))[inside]
    assert difference.max() < 2 and difference.mean() < 0.8  # Pillow truncates


def test_rotation_by_a_right_angle_is_exact():
    square = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    turned = affine.warp(jnp.asarray(square) / 255, affine.rotation_matrix(jnp.asarray([90.0])))
    np.testing.assert_allclose(np.asarray(turned[0]) * 255, np.rot90(square[0]), atol=2e-2)


@pytest.mark.parametrize("size", [(12, 17), pytest.param((60, 50), marks=pytest.mark.slow)])
def test_resized_crop(image, photos, size):
    window = Window(both(3), both(5), both(24), both(31))
    difference = levels(
        crops.resized_crop(LazyImage.of(image), window, size).pixels(),
        photos,
        lambda x: x.crop((5, 3, 36, 27)).resize(size[::-1], Image.Resampling.BILINEAR),
    )
    assert difference.max() < 1.1 and difference.mean() < 0.4  # Pillow rounds after each of two passes


@pytest.mark.slow
def test_resized_crop_of_a_padded_flipped_view_then_flipped_and_cropped(image, photos):
    """Nothing is computed between them, so each must act on what the others have left of the view."""
    chosen = jnp.asarray([True, False])
    view = flips.mirror(LazyImage.of(image), chosen)
    view = crops.crop(view, both(0), both(1), (30, 38), padding=4)  # black above and to the left
    view = crops.resized_crop(view, Window(both(2), both(0), both(24), both(31)), (20, 27))
    view = flips.upside_down(view, ~chosen)
    view = crops.center_crop(view, (16, 21))

    def reference(x, i):
        x = ImageOps.expand(ImageOps.mirror(x) if i == 0 else x, 4).crop((1, 0, 39, 30))
        x = x.crop((0, 2, 31, 26)).resize((27, 20), Image.Resampling.BILINEAR)
        x = ImageOps.flip(x) if i == 1 else x
        return x.crop((3, 2, 24, 18))

    order = iter(range(2))
    difference = levels(view.pixels(), photos, lambda x: reference(x, next(order)))
    assert difference.max() < 1.1 and difference.mean() < 0.4
    # A uint8 source gives the same.
    same = view._replace(source=jnp.asarray(photos)).pixels()
    np.testing.assert_allclose(same, view.pixels(), atol=1e-6)


@pytest.mark.parametrize("factor", [0.4, 1.6])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (color.brightness, ImageEnhance.Brightness),
        (color.contrast, ImageEnhance.Contrast),
        (color.saturation, ImageEnhance.Color),
    ],
)
def test_enhancements(image, photos, ours, theirs, factor):
    difference = levels(ours(image, both(factor)), photos, lambda x: theirs(x).enhance(factor))
    assert difference.max() < 2 and difference.mean() < 0.8


def test_contrast_is_about_the_mean_of_each_images_own_grayscale(image):
    """Not of the batch, not of each channel, not of the brightest pixel: a known fault elsewhere."""
    flat = np.asarray(color.contrast(image, both(0.0)))
    for one, photo in zip(flat, np.asarray(image), strict=True):
        np.testing.assert_allclose(one, (photo @ np.asarray(color.LUMA)).mean(), atol=1e-5)
    assert abs(flat[0].mean() - flat[1].mean()) > 0.02


def test_grayscale(image, photos):
    difference = levels(color.grayscale(image), photos, lambda x: x.convert("L"))
    assert difference.max() < 0.52


@pytest.mark.parametrize("shift", [0.25, -0.1])
def test_hue(image, photos, shift):
    """Pillow's HSV has 256 hues, so only the mean is close."""

    def turn(x):
        h, s, v = x.convert("HSV").split()
        h = Image.fromarray((np.asarray(h).astype(int) + round(shift * 255)).astype(np.uint8))
        return Image.merge("HSV", (h, s, v)).convert("RGB")

    assert levels(color.hue(image, both(shift)), photos, turn).mean() < 2


@pytest.mark.parametrize(
    ("name", "magnitude", "theirs"),
    [
        ("Posterize", 3, lambda x: ImageOps.posterize(x, 3)),
        ("Solarize", 0.5, lambda x: ImageOps.solarize(x, 127.5)),
        ("AutoContrast", 0, ImageOps.autocontrast),
        ("Equalize", 0, ImageOps.equalize),
        ("Invert", 0, ImageOps.invert),
        ("Sharpness", 0.8, lambda x: ImageEnhance.Sharpness(x).enhance(1.8)),
    ],
)
def test_levels(image, photos, name, magnitude, theirs):
    steps = auto_operations.Steps(
        jnp.full((2, 1), auto_operations.KINDS.index(name)), jnp.full((2, 1), float(magnitude))
    )
    tolerance = {"AutoContrast": 1.01, "Sharpness": 2.0}.get(name, 0.01)
    assert levels(auto_operations.apply(image, steps), photos, theirs).max() < tolerance


def test_equalize_leaves_a_uniform_image(image):
    steps = auto_operations.Steps(jnp.full((1, 1), auto_operations.KINDS.index("Equalize")), jnp.zeros((1, 1)))
    flat = jnp.full((1, 8, 8, 3), 77 / 255)
    np.testing.assert_allclose(auto_operations.apply(flat, steps), flat, atol=1e-6)
