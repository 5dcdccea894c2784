"""Every kind of image file, against values worked out by hand or by another library."""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data import decode as module
from imgcls_jax.data import files, image_formats
from imgcls_jax.data.decode import UnreadableImageError


def decode(content: module.Encoded, channels: int) -> Image.Image:
    return module.decode(content, channels).image


GOLDEN = Path(__file__).parents[1] / "golden"

# Red by column, green by row: 24 rows, 40 columns.
SLOPES = np.stack([*(np.indices((24, 40))[::-1] * np.array([6, 10]).reshape(2, 1, 1)), np.full((24, 40), 128)], -1)
SLOPES = SLOPES.astype(np.uint8)


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


def test_rgb_to_gray_is_itu_601_luma():
    pixels = noise(9, 9, 3)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(np.asarray(decode(pixels, 1)), luma, atol=0.51)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_gray_becomes_three_equal_channels(shape):
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
    color, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = np.broadcast_to(color * alpha + 255 * (1 - alpha), (6, 6, 3))
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
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
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
    with pytest.raises(UnreadableImageError, match="^not a JPEG, PNG, .* but a web page$"):
        decode(tmp_path / "text.jpg", 3)
    with pytest.raises(UnreadableImageError, match="^there is no such file$"):
        decode(tmp_path / "absent.jpg", 3)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")[:1500], 3)
    with pytest.raises(UnreadableImageError, match="floating-point pixels"):
        decode(encoded(Image.new("F", (2, 2)), "TIFF"), 3)
    with pytest.raises(UnreadableImageError, match="32-bit pixels"):
        decode(encoded(Image.fromarray(np.array([[70]], np.int32)), "TIFF"), 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_images_beyond_pillows_own_limit(kind, monkeypatch, recwarn):
    """Are read up to ours, whatever the plugin checks itself, without a warning; Pillow's limit stays for others."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(image_formats, "_LARGE", 1000)
    content = encoded(Image.new("L", (200, 100), 99), kind)
    assert np.abs(np.asarray(decode(content, 1)).astype(int) - 99).max() <= 1
    with pytest.raises(UnreadableImageError, match=r"200×100 pixels exceed the 0.019 megapixels of data\.canvas\."):
        module.decode(content, 1, limits=module.Limits(pixels=19_000))
    assert (Image.MAX_IMAGE_PIXELS, len(recwarn)) == (1000, 0)


@pytest.mark.skipif("AVIF" not in image_formats.FORMATS, reason="this Pillow has no AVIF")
def test_avif(tmp_path: Path):
    (tmp_path / "x.avif").write_bytes(encoded(Image.fromarray(SLOPES), "AVIF", quality=90))
    np.testing.assert_allclose(np.asarray(decode(tmp_path / "x.avif", 3)), SLOPES, atol=12)
    assert module.original_size(tmp_path / "x.avif") == SLOPES.shape[:2]
    assert files.is_image("x.AVIF")


@pytest.mark.parametrize("kind", ["plain", "turned"])
def test_heic(kind):
    """Two files that pillow-heif wrote at quality 90, one with the orientation "turn right" of a telephone."""
    pytest.importorskip("pi_heif")
    content = np.load(GOLDEN / "heic.npz")[kind].tobytes()
    expected = np.rot90(SLOPES, -1) if kind == "turned" else SLOPES
    np.testing.assert_allclose(np.asarray(decode(content, 3)), expected, atol=12)
    assert module.original_size(content) == expected.shape[:2]
    assert files.is_image("IMG_1.HEIC")


def test_heic_without_its_plugin(monkeypatch):
    monkeypatch.setattr(image_formats, "FORMATS", ("JPEG", "PNG"))
    reason = "but a file of the kind heic .HEIC, AVIF or a film; for the former, pip install pi-heif.$"
    with pytest.raises(UnreadableImageError, match=reason):
        decode(np.load(GOLDEN / "heic.npz")["plain"].tobytes(), 3)


def test_a_reduced_jpeg_counts_with_what_is_decoded_unless_it_is_progressive():
    limits = module.Limits(pixels=128 * 128)
    for progressive in (False, True):
        content = encoded(Image.new("RGB", (512, 512)), "JPEG", progressive=progressive)
        if progressive:
            with pytest.raises(UnreadableImageError, match="512×512 pixels exceed"):
                module.decode(content, 3, lambda size: (128, 128), limits)
        else:
            assert module.decode(content, 3, lambda size: (128, 128), limits).image.size == (128, 128)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX", "TGA", "JPEG2000"])
def test_no_other_parser_is_started(kind, tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (16, 16)).save(path, kind)
    monkeypatch.setattr(subprocess, "Popen", None)  # Ghostscript, which EPS starts
    with pytest.raises(UnreadableImageError, match="^not a JPEG, PNG"):
        decode(path, 3)
    with pytest.raises(UnreadableImageError):
        module.original_size(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_regular_files_within_the_budget_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(20 * 2**30)
    for name, reason in {
        "pipe": "a named pipe, not a file",
        "zero": "a device, not a file",
        "folder": "a folder, not a file",
        "sparse": "20,480 MiB exceed the 2048 MiB of data.canvas.max_file_mib",
    }.items():
        for function in (lambda path: decode(path, 3), module.original_size):
            with pytest.raises(UnreadableImageError, match=reason):
                function(tmp_path / f"{name}.png")


def png_with(*chunks: tuple[bytes, bytes], damaged: bool = False) -> bytes:
    """A PNG of noise with these chunks after the header, their checksums damaged on request."""
    content = encoded(Image.fromarray(noise(6, 6, 3)))
    inserted = b"".join(
        len(data).to_bytes(4, "big") + kind + data + (zlib.crc32(kind + data) ^ damaged).to_bytes(4, "big")
        for kind, data in chunks
    )
    return content[:33] + inserted + content[33:]


LONG = zlib.compress(b"workflow " * 150_000)


@pytest.mark.parametrize(
    ("chunk", "damaged"),
    [
        ((b"zTXt", b"prompt\0\0" + LONG), False),
        ((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG), False),
        ((b"iCCP", b"profile\0\0" + LONG), False),
        ((b"tEXt", b"Comment\0short"), True),
        ((b"gAMA", b"\0"), False),
    ],
)
def test_sound_pixels_are_read_whatever_a_png_says_beside_them(chunk, damaged):
    cv2 = pytest.importorskip("cv2")
    content = png_with(chunk, damaged=damaged)
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(np.asarray(decode(content, 3)), shown)
    assert module.original_size(content) == (6, 6)


def tiff(
    values: np.ndarray, *, photometric: int = 1, sample_format: int = 1, bits: int | None = None, order: str = "<"
) -> bytes:
    """A TIFF of one strip, by the specification; 12 bits are packed, two pixels in three bytes."""
    height, width = values.shape
    raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        raw = bytes(
            byte for a, b in pairs.tolist() for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255)
        )  # fmt: skip
    tags = {
        256: width, 257: height, 258: bits or values.dtype.itemsize * 8, 259: 1, 262: photometric, 273: 8, 277: 1,
        278: height, 279: len(raw), 339: sample_format,
    }  # fmt: skip
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return (
        mark + struct.pack(order + "I", 8 + len(raw)) + raw + struct.pack(order + "H", len(tags)) + entries + bytes(4)
    )


RAMP = np.tile(np.arange(0, 256, 16), (4, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_white_may_be_zero_in_a_tiff_of_any_depth(dtype, scale, order, white_is_zero, channels):
    content = tiff((RAMP * scale).astype(dtype), photometric=0 if white_is_zero else 1, order=order)
    shown = 255 - RAMP if white_is_zero else RAMP
    assert module.original_size(content) == (4, 16)
    for band in np.asarray(decode(content, channels)).reshape(4, 16, channels).transpose(2, 0, 1):
        np.testing.assert_array_equal(band, shown)


def test_twelve_bits_keep_their_range():
    for photometric, shown in ((1, RAMP), (0, 255 - RAMP)):
        content = tiff((RAMP * 4095 // 255).astype(np.uint16), bits=12, photometric=photometric)
        np.testing.assert_allclose(np.asarray(decode(content, 1)).astype(int), shown, atol=1)


def test_pixels_of_unknown_range_are_refused():
    with pytest.raises(UnreadableImageError, match="signed pixels, whose range is unknown"):
        decode(tiff(RAMP.astype(np.int16), sample_format=2), 1)
    with pytest.raises(UnreadableImageError, match="32-bit pixels, whose range is unknown"):
        decode(tiff(RAMP.astype(np.uint32)), 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damaged_files_are_read_or_refused(kind):
    """120 seeded damages of each format: bytes changed, cut, doubled. Nothing but the one error comes out."""
    rng = np.random.default_rng(7)
    sound = encoded(Image.fromarray(noise(24, 24, 3)), kind)
    limits = module.Limits(pixels=10**6)
    outcomes = set()
    for _ in range(120):
        content = bytearray(sound)
        for place in rng.integers(0, min(len(content), 200), rng.integers(1, 6)).tolist():
            content[place] = int(rng.integers(256))
        start, stop = sorted(rng.integers(0, len(content), 2).tolist())
        damaged = bytes(content) if rng.random() < 0.7 else bytes(content[:start] + content[stop:])
        try:
            image = module.decode(damaged, 3, limits=limits).image
            assert (image.mode, image.width * image.height <= 10**6) == ("RGB", True)
            outcomes.add("read")
        except UnreadableImageError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_size_of_a_file_longer_than_a_header(kind, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(encoded(Image.fromarray(noise(300, 400, 3)), kind))
    assert path.stat().st_size > module._HEAD or kind in ("JPEG", "GIF")
    assert module.original_size(path) == (300, 400)
