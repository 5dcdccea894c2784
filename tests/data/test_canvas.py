"""Canvases against Pillow's own helpers and torchvision."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.canvas import FILTERS, content_aspect, fit
from imgcls_jax.data.decode import UnreadableImageError

SIZES = [(40, 30), (30, 40), (33, 47), (16, 16), (9, 100), (7, 5), (24, 16)]
FILTER_NAMES = ["nearest", "bilinear", "bicubic", "lanczos"]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", FILTER_NAMES)
def test_crop_is_torchvisions_resize_and_centre_crop(size, interpolation, torchvision_transforms):
    tv = torchvision_transforms
    image = noise(size)
    mode = tv.InterpolationMode(interpolation)
    reference = tv.Compose([tv.Resize(16, mode), tv.CenterCrop(16)])(image)
    ours = fit(image, Canvas(16, 16, interpolation=interpolation))
    np.testing.assert_array_equal(ours, np.asarray(reference))


@pytest.mark.parametrize(
    ("size", "resized", "box"),
    [
        ((40, 30), (32, 24), (4, 0, 28, 24)),  # wider than the canvas: the height decides
        ((30, 40), (24, 32), (0, 4, 24, 28)),
        ((50, 33), (36, 24), (6, 0, 30, 24)),
    ],
)
def test_crop_by_hand(size, resized, box):
    image = noise(size)
    reference = image.resize(resized, Image.Resampling.BICUBIC).crop(box)
    np.testing.assert_array_equal(fit(image, Canvas(24, 24, interpolation="bicubic")), np.asarray(reference))


@pytest.mark.parametrize(
    ("size", "resized", "box"), [((40, 30), (40, 30), (0, 7, 40, 23)), ((10, 2), (80, 16), (20, 0, 60, 16))]
)
def test_crop_to_an_oblong_canvas(size, resized, box):
    image = noise(size)
    reference = image.resize(resized, Image.Resampling.BILINEAR).crop(box)
    np.testing.assert_array_equal(fit(image, Canvas(16, 40)), np.asarray(reference))


@pytest.mark.parametrize("size", SIZES)
def test_pad_is_pillows(size):
    image = noise(size)
    reference = ImageOps.pad(image, (24, 16), Image.Resampling.LANCZOS, color="black")
    ours = fit(image, Canvas(16, 24, fit="pad", interpolation="lanczos"))
    np.testing.assert_array_equal(ours, np.asarray(reference))


@pytest.mark.parametrize("interpolation", FILTER_NAMES)
def test_stretch_is_pillows_resize(interpolation):
    image = noise((33, 47))
    reference = image.resize((24, 16), FILTERS[interpolation])
    np.testing.assert_array_equal(fit(image, Canvas(16, 24, fit="stretch", interpolation=interpolation)), reference)


def test_an_image_that_fits_is_left_alone():
    image = noise((24, 16))
    for how in ("crop", "stretch", "pad"):
        np.testing.assert_array_equal(fit(image, Canvas(16, 24, fit=how)), np.asarray(image))


def test_grey_has_one_channel():
    ours = fit(noise((10, 8), "L"), Canvas(6, 6, 1))
    assert (ours.shape, ours.dtype) == ((6, 6, 1), np.uint8)


def test_needle_is_refused_before_it_fills_the_memory():
    with pytest.raises(UnreadableImageError, match="30000×1 pixels are too elongated"):
        fit(Image.new("L", (30000, 1)), Canvas(224, 224, 1))


@pytest.mark.parametrize(("how", "aspect"), [("crop", 1.0), ("stretch", 2.5), ("pad", 2.5)])
def test_content_aspect(how, aspect):
    assert content_aspect((50, 20), Canvas(16, 24, fit=how)) == aspect
