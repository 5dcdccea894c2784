"""Canvases against Pillow's own helpers and torchvision."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from imgcls_jax.config.data import Canvas
from imgcls_jax.data.canvas import FILTERS, content_aspect, read
from imgcls_jax.data.decode import UnreadableImageError

SIZES = [(40, 30), (30, 40), (33, 47), (16, 16), (9, 100), (7, 5), (24, 16)]
FILTER_NAMES = ["nearest", "bilinear", "bicubic", "lanczos"]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def fit(image: Image.Image, canvas: Canvas) -> np.ndarray:
    return read(np.asarray(image), canvas)[0]


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


def test_gray_has_one_channel():
    ours = fit(noise((10, 8), "L"), Canvas(6, 6, 1))
    assert (ours.shape, ours.dtype) == ((6, 6, 1), np.uint8)


def test_needle_is_refused_before_it_fills_the_memory():
    with pytest.raises(UnreadableImageError, match="30000×1 pixels are too elongated"):
        fit(Image.new("L", (30000, 1)), Canvas(224, 224, 1))


@pytest.mark.parametrize(("how", "aspect"), [("crop", 1.0), ("stretch", 2.5), ("pad", 2.5)])
def test_content_aspect(how, aspect):
    assert content_aspect((20, 50), Canvas(16, 24, fit=how)) == aspect


def photograph(size: tuple[int, int], orientation: int = 1, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """Waves that every reduction to a twelfth of the size or less can still show."""
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 6, size[1]))
    pixels = 127 + 100 * np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(y)], -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file, kind, quality=95, exif=exif)
    return file.getvalue()


def reduced(**settings) -> Canvas:
    return Canvas(24, 32, jpeg_decoding="reduced", **settings)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((63, 48), (63, 48)),  # half would be smaller than the canvas
        ((64, 48), (32, 24)),
        ((127, 200), (64, 100)),
        ((128, 200), (32, 50)),
        ((101, 48), (51, 24)),  # sides are rounded up
        ((257, 193), (33, 25)),
        ((4000, 192), (500, 24)),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_the_canvas_allows(size, decoded, monkeypatch):
    sizes = []

    def fit(decoded, canvas):
        sizes.append((decoded.image.size, decoded.size[::-1]))
        return np.zeros((canvas.height, canvas.width, canvas.channels), np.uint8)

    monkeypatch.setattr("imgcls_jax.data.canvas._fit", fit)
    read(photograph(size), reduced())
    read(photograph(size), Canvas(24, 32))
    assert sizes == [(decoded, size), (size, size)]


@pytest.mark.parametrize("how", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(403, 290), (290, 403)])
def test_reduced_shows_the_same(how, orientation, size):
    content = photograph(size, orientation)
    (full, aspect), (ours, same_aspect) = (read(content, canvas(fit=how)) for canvas in (full_canvas, reduced))
    assert ours.shape == full.shape and aspect == same_aspect
    difference = np.abs(ours.astype(int) - full)
    assert 0 < difference.max() <= 6 and difference.mean() < 1


def full_canvas(**settings) -> Canvas:
    return Canvas(24, 32, **settings)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_reduced_gray_and_cmyk(mode, channels):
    content = photograph((403, 290), mode=mode)
    full, ours = (read(content, canvas(channels=channels))[0] for canvas in (full_canvas, reduced))
    assert np.abs(ours.astype(int) - full).max() <= 6


def test_reduced_several_pictures_in_one_file():
    first, second = (Image.open(io.BytesIO(photograph(size))) for size in ((403, 290), (90, 80)))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    full, ours = (read(file.getvalue(), canvas())[0] for canvas in (full_canvas, reduced))
    assert 0 < np.abs(ours.astype(int) - full).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_never_reduced(kind):
    content = photograph((403, 290), kind=kind)
    np.testing.assert_array_equal(read(content, reduced())[0], read(content, Canvas(24, 32))[0])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_reduced_with_damaged_exif():
    file = io.BytesIO()
    Image.open(io.BytesIO(photograph((403, 290)))).save(file, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff garbage")
    assert read(file.getvalue(), reduced())[1] == 1.0


def test_reduced_and_truncated():
    with pytest.raises(UnreadableImageError, match="truncated"):
        read(photograph((403, 290))[:3000], reduced())


def test_reduced_needle_is_named_by_its_full_size():
    with pytest.raises(UnreadableImageError, match="60000×8 pixels are too elongated"):
        read(photograph((60000, 8)), Canvas(2240, 1, jpeg_decoding="reduced"))
