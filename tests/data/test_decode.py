"""Every kind of image file, against values worked out by hand or by another library."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data import decode as module
from imgcls_jax.data.decode import UnreadableImageError


def decode(content: module.Encoded, channels: int) -> Image.Image:
    return module.decode(content, channels).image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_rgb_is_lossless_from_bytes_file_and_array(tmp_path: Path):
    pixels = noise(5, 7, 3)
    content = encoded(Image.fromarray(pixels))
    (tmp_path / "x.png").write_bytes(content)
    for given in (content, tmp_path / "x.png", pixels):
        image = decode(given, 3)
        assert (image.mode, image.size) == ("RGB", (7, 5))
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_rgb_to_grey_is_itu_601_luma():
    pixels = noise(9, 9, 3)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(np.asarray(decode(pixels, 1)), luma, atol=0.51)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_grey_becomes_three_equal_channels(shape):
    pixels = noise(*shape)
    rgb = np.asarray(decode(pixels, 3))
    np.testing.assert_array_equal(rgb, np.broadcast_to(pixels.reshape(4, 6, 1), (4, 6, 3)))
    np.testing.assert_array_equal(np.asarray(decode(pixels, 1)), pixels.reshape(4, 6))


def test_bilevel():
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    np.testing.assert_array_equal(np.asarray(decode(encoded(image), 1)), [[0, 255], [255, 0]])


def test_palette():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([1, 0])
    np.testing.assert_array_equal(np.asarray(decode(encoded(image), 3)), [[[200, 100, 50], [10, 20, 30]]])


def test_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([1, 0])
    content = encoded(image, transparency=1)
    np.testing.assert_array_equal(np.asarray(decode(content, 3)), [[[255, 255, 255], [10, 20, 30]]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    bands = len(mode)
    pixels = noise(6, 6, bands)
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (6, 6, 3))
    image = Image.frombytes(mode, (6, 6), pixels.tobytes())
    np.testing.assert_allclose(np.asarray(decode(encoded(image), 3)), expected, atol=1)


def test_transparent_colour_of_an_rgb_png():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    content = encoded(Image.fromarray(pixels), transparency=(1, 2, 3))
    np.testing.assert_array_equal(np.asarray(decode(content, 3)), [[[255, 255, 255], [4, 5, 6]]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_range(kind, channels):
    values = np.array([[0, 257, 1000, 32768, 65535]], np.uint16)
    content = encoded(Image.fromarray(values), kind)
    decoded = np.asarray(decode(content, channels)).reshape(5, channels)
    np.testing.assert_array_equal(decoded, np.repeat([[0], [1], [4], [128], [255]], channels, axis=1))


def test_big_endian_sixteen_bit_pgm():
    content = b"P5 3 1 65535\n" + np.array([0, 32768, 65535], ">u2").tobytes()
    np.testing.assert_array_equal(np.asarray(decode(content, 1)), [[0, 128, 255]])


def test_sixteen_bit_rgb_written_by_opencv():
    cv2 = pytest.importorskip("cv2")
    values = noise(4, 4, 3).astype(np.uint16) * 257
    content = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(np.asarray(decode(content, 3)), values // 257)


def test_cmyk_jpeg():
    flat = {"black": (0, 0, 0, 255), "white": (0, 0, 0, 0), "red": (0, 255, 255, 0)}
    rgb = {"black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0)}
    for name, ink in flat.items():
        content = encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
        decoded = np.asarray(decode(content, 3)).astype(int)
        assert np.abs(decoded - rgb[name]).max() <= 2, name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_against_opencv(orientation):
    cv2 = pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = np.stack([*np.meshgrid(np.arange(0, 240, 10), np.arange(0, 160, 10)), np.full((16, 24), 80)], -1)
    content = encoded(Image.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95, exif=exif)
    reference = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    decoded = np.asarray(decode(content, 3)).astype(int)
    assert decoded.shape == reference.shape
    assert np.abs(decoded - reference).max() <= 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_lose_the_image():
    content = encoded(Image.fromarray(noise(8, 8, 3)), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert decode(content, 3).size == (8, 8)


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(decode(content, 3))[0, 0], [255, 0, 0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated(kind):
    content = encoded(Image.fromarray(noise(64, 64, 3)), kind)
    with pytest.raises(UnreadableImageError):
        decode(content[: len(content) // 2], 3)


def test_reasons(tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UnreadableImageError, match=r"^the file is empty \(0 bytes\)$"):
        decode(tmp_path / "empty.jpg", 3)
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(UnreadableImageError, match="^not an image in a format that Pillow reads$"):
        decode(tmp_path / "text.jpg", 3)
    with pytest.raises(UnreadableImageError, match="FileNotFoundError"):
        decode(tmp_path / "absent.jpg", 3)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")[:1500], 3)
    with pytest.raises(UnreadableImageError, match="floating-point pixels"):
        decode(encoded(Image.new("F", (2, 2)), "TIFF"), 3)
    with pytest.raises(UnreadableImageError, match="32-bit pixels"):
        decode(encoded(Image.fromarray(np.array([[70000]], np.int32)), "TIFF"), 3)


def test_decompression_bomb_is_refused(monkeypatch):
    content = encoded(Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="DecompressionBombError"):
        decode(content, 1)
