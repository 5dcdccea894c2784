"""Images of other channels and depths, beside numpy, Pillow and tifffile written out."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data.canvas import limits, read
from imgcls_jax.data.decode import Limits, UnreadableImageError, original_size
from imgcls_jax.data.examples import Splits
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.errors import UserError


def npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stack(*pages: np.ndarray, **options) -> bytes:
    images = [Image.fromarray(page) for page in pages]
    return saved(images[0], "TIFF", save_all=True, append_images=images[1:], **options)


def pixels(*shape: int, dtype=np.uint16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_that_fits_is_its_own_canvas(channels, dtype):
    image = pixels(6, 7, channels, dtype=dtype)
    canvas = c.Canvas(6, 7, channels, depth=8 * image.itemsize)
    for encoded in (image, npy(image), npy(np.asfortranarray(image)), npy(image.astype(image.dtype.newbyteorder(">")))):
        ours, aspect = read(encoded, canvas)
        assert ours.dtype == dtype and aspect == 1
        np.testing.assert_array_equal(ours, image)
    if channels == 1:
        np.testing.assert_array_equal(read(npy(image[..., 0]), canvas)[0], image)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_each_channel_of_8_bits_is_fitted_as_a_gray_picture(fit, interpolation):
    image = pixels(23, 31, 5, dtype=np.uint8)
    ours, aspect = read(npy(image), c.Canvas(12, 10, 5, fit, interpolation))
    one = c.Canvas(12, 10, 1, fit, interpolation)
    for channel in range(5):
        picture = Image.fromarray(image[..., channel])
        theirs, same = read(saved(picture, "PNG"), one)
        np.testing.assert_array_equal(ours[..., channel], theirs[..., 0])
        assert aspect == same


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as Pillow's bilinear filter, in float64: each output is a triangle's weighted mean of its neighbors."""

    def matrix(length: int, target: int) -> np.ndarray:
        scale = length / target
        support = max(scale, 1.0)
        centers = (np.arange(target)[:, None] + 0.5) * scale
        weights = np.maximum(1 - np.abs(np.arange(length) + 0.5 - centers) / support, 0)
        return weights / weights.sum(1, keepdims=True)

    return matrix(image.shape[0], size[0]) @ image.astype(np.float64) @ matrix(image.shape[1], size[1]).T


def test_16_bits_are_resized_without_losing_any():
    image = pixels(23, 31, 2)
    ours = read(npy(image), c.Canvas(12, 10, 2, "stretch", depth=16))[0]
    for channel in range(2):
        theirs = resized(image[..., channel], (12, 10))
        assert np.abs(ours[..., channel] - theirs).max() < 0.51  # rounded to the nearest of 65,536
    bright = np.zeros((20, 20, 2), np.uint16)
    bright[:, 10:] = 65535
    edge = read(npy(bright), c.Canvas(30, 30, 2, "stretch", "bicubic", depth=16))[0]
    assert edge.min() == 0 and edge.max() == 65535  # an overshoot is cut off, and does not wrap around


def test_depths_are_scaled_from_black_to_white():
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    sixteen = read(npy(eight), c.Canvas(16, 16, 1, depth=16))[0][..., 0]
    np.testing.assert_array_equal(sixteen, eight.astype(np.int64) * 257)
    fine = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    theirs = np.rint(fine / 257).astype(np.uint8)
    np.testing.assert_array_equal(read(npy(np.dstack([fine, fine])), c.Canvas(256, 256, 2))[0][..., 1], theirs)
    np.testing.assert_array_equal(read(npy(fine), c.Canvas(256, 256, 1))[0][..., 0], theirs)
    shares = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = np.rint(shares.astype(np.float64) * 65535)
    np.testing.assert_array_equal(read(npy(shares), c.Canvas(16, 16, 1, depth=16))[0][..., 0], expected)
    mask = eight > 100
    np.testing.assert_array_equal(read(npy(mask), c.Canvas(16, 16, 1, depth=16))[0][..., 0], mask * 65535)


def test_an_npy_file_of_gray_or_color_is_a_picture():
    image = pixels(6, 7, 3, dtype=np.uint8)
    png = saved(Image.fromarray(image), "PNG")
    for canvas in (c.Canvas(6, 7), c.Canvas(6, 7, 1), c.Canvas(4, 3, fit="pad")):
        np.testing.assert_array_equal(read(npy(image), canvas)[0], read(png, canvas)[0])
    assert original_size(npy(image)) == original_size(png) == (6, 7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_of_a_stack_are_channels(dtype, compression):
    image = pixels(5, 6, 9, dtype=dtype)
    content = stack(*np.moveaxis(image, 2, 0), compression=compression)
    np.testing.assert_array_equal(read(content, c.Canvas(5, 6, 9, depth=8 * image.itemsize))[0], image)
    with pytest.raises(UnreadableImageError, match="^9 channels, not the 5 of data.canvas.channels$"):
        read(content, c.Canvas(5, 6, 5))


@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), ("<", True), (">", False)])
def test_stacks_that_tifffile_writes_are_read(byteorder, bigtiff):
    tifffile = pytest.importorskip("tifffile")
    image, file = pixels(4, 5, 6), io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        for page in np.moveaxis(image, 2, 0):
            writer.write(page, contiguous=False, photometric="minisblack")
    np.testing.assert_array_equal(read(file.getvalue(), c.Canvas(4, 5, 6, depth=16))[0], image)


def test_other_files_keep_what_they_have():
    gray, color = pixels(6, 7), pixels(6, 7, 4, dtype=np.uint8)
    png = saved(Image.fromarray(gray), "PNG")
    np.testing.assert_array_equal(read(png, c.Canvas(6, 7, 1, depth=16))[0][..., 0], gray)
    np.testing.assert_array_equal(read(png, c.Canvas(6, 7, 3, depth=16))[0][..., 2], gray)
    rgba = saved(Image.fromarray(color), "PNG")
    np.testing.assert_array_equal(read(rgba, c.Canvas(6, 7, 4))[0], color)
    # Opacity is no channel of a gray or RGB canvas, whatever its depth.
    theirs = read(rgba, c.Canvas(6, 7))[0] * np.uint16(257)
    np.testing.assert_array_equal(read(rgba, c.Canvas(6, 7, depth=16))[0], theirs)
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(read(image, c.Canvas(6, 7, 1, depth=16))[0][..., 0], gray)


def test_what_pillow_would_reduce_to_8_bits_is_refused():
    cv2 = pytest.importorskip("cv2")
    image = pixels(6, 7, 3)
    for suffix in (".png", ".tif"):
        content = cv2.imencode(suffix, image)[1].tobytes()
        with pytest.raises(UnreadableImageError, match="^several channels of 16 bits in one page, of which 8"):
            read(content, c.Canvas(6, 7, depth=16))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(pixels(6, 7, 4)), "^4 channels, not the 5 of data.canvas.channels$"),
        (npy(pixels(3, 60, 70)), r"^an array \[3, 60, 70\], not .* channels\]: move the channels last$"),
        (npy(np.zeros((6, 7, 5), np.int32)), "^int32 pixels, whose range is unknown; store uint8, uint16, or floats"),
        (npy(np.full((6, 7, 5), 2.5)), "^floats from 2.5 to 2.5, whose range is unknown"),
        (npy(np.full((6, 7, 5), np.nan)), "^pixels that are not finite$"),
        (npy(pixels(6, 7, 5))[:-1], "^a damaged .npy file: EOF"),
        (npy(pixels(6, 7, 5))[:20], "^a damaged .npy file: "),
        (npy(pixels(0, 7, 5)), "^an array "),
        (npy(pixels(300, 700, 1)), "^700×300 pixels exceed the 0.2 megapixels of data.canvas.max_megapixels$"),
        (stack(*pixels(5, 100, 500)), r"^250,000 pixels in 5 pages exceed the 0.2 megapixels"),
        (stack(pixels(6, 7), pixels(7, 6)), "^pages of 7×6 and 6×7 pixels: those of a stack are of one size$"),
        (stack(*pixels(17, 4, 4)), "^more than 16 channels in its pages$"),
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"<html>", "^not a JPEG, .* but a web page$"),
    ],
)
def test_what_cannot_be_used_says_why(content, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read(content, c.Canvas(6, 7, 5, max_megapixels=0.2, depth=16))


def test_an_object_array_is_not_unpickled():
    content = npy(np.array([[1, "x"], [2, "y"]], object))
    with pytest.raises(UnreadableImageError, match="^object pixels, whose range is unknown"):
        read(content, c.Canvas(2, 2, 1, depth=16))
    assert limits(c.Canvas(2, 2)) == Limits()


@pytest.fixture
def fields(tmp_path):
    """FIELDS/{corn,rice}/….npy: 5 channels of 16 bits, and the arrays by path."""
    arrays = {}
    for name in ("corn", "rice"):
        (tmp_path / "fields" / name).mkdir(parents=True)
        for i in range(3):
            image = pixels(9, 8, 5, seed=len(arrays))
            arrays[f"{name}/{i}.npy"] = image
            np.save(tmp_path / "fields" / name / f"{i}.npy", image)
    return tmp_path / "fields", arrays


def settings(source, cache, depth: int = 16, channels: int = 5, **changes) -> c.Data:
    canvas = c.Canvas(9, 8, channels, depth=depth)
    unit = (0.5,) * channels
    return c.Data(source, canvas, (9, 8), mean=unit, std=unit, cache_dir=str(cache), **changes)


def test_a_folder_of_arrays_is_cached_by_depth(fields, tmp_path):
    folder, arrays = fields
    expected = np.stack([arrays[name] for name in sorted(arrays)])
    for changes in ({}, {}, {"cache_gib": 1e-7}, {"cache_gib": 0}):  # made, found, does not fit, off
        dataset = data.load(settings(Folder(str(folder)), tmp_path / "cache", **changes))
        assert dataset.train.ids == sorted(arrays) and not dataset.bad
        assert dataset.train.storage == ("decoded in every epoch" if changes else "cached as they are")
        canvases = dataset.train.read(np.arange(6))
        assert canvases.dtype == np.uint16
        np.testing.assert_array_equal(canvases, expected)
        assert dataset.train.nbytes == expected.nbytes
    eight = data.load(settings(Folder(str(folder)), tmp_path / "cache", depth=8)).train.read_all()
    np.testing.assert_array_equal(eight, np.rint(expected / 257))
    mean, std = data.channel_statistics(dataset.train)
    np.testing.assert_allclose(mean, (expected / 65535).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (expected / 65535).std((0, 1, 2)), rtol=1e-9)


def test_arrays_in_memory_keep_their_depth(tmp_path):
    images, labels = pixels(4, 9, 8, 5), np.array([0, 1, 0, 1])
    loaded = data.load(settings(Arrays(), tmp_path), arrays={"x_train": images, "y_train": labels})
    assert loaded.train.storage == "in memory"
    np.testing.assert_array_equal(loaded.train.read(np.array([2, 0])), images[[2, 0]])
    eight = (images >> 8).astype(np.uint8)
    widened = data.load(settings(Arrays(), tmp_path), arrays={"x_train": eight, "y_train": labels})
    np.testing.assert_array_equal(widened.train.read_all(), eight.astype(np.uint16) * 257)
    narrow = data.load(settings(Arrays(), tmp_path, depth=8), arrays={"x_train": eight, "y_train": labels})
    np.testing.assert_array_equal(narrow.train.read_all(), eight)
    assert loaded.split_hash != widened.split_hash
    with pytest.raises(UserError, match="are uint16, but data.canvas.depth is 8: set it to 16, or scale"):
        data.load(settings(Arrays(), tmp_path, depth=8), arrays={"x_train": images, "y_train": labels})
    with pytest.raises(UserError, match="have 5 channels, but data.canvas.channels is 4$"):
        data.load(settings(Arrays(), tmp_path, channels=4), arrays={"x_train": images, "y_train": labels})
    pairs = Splits.from_pairs("two", [(images[0], "a"), (images[1], "b")])
    assert pairs.train.pixels.dtype == np.uint16


def test_hashes_tell_depths_apart(tmp_path):
    """The same bytes as other pixels are other images."""
    images, labels = pixels(4, 4, 4, 2), np.array([0, 1, 0, 1])
    as_bytes = images.view(np.uint8)
    found = []
    for pixels_, channels, depth in ((images, 2, 16), (as_bytes, 4, 8)):
        canvas = c.Canvas(4, 4, channels, depth=depth)
        unit = (0.5,) * channels
        loaded = data.load(
            c.Data(Arrays(), canvas, (4, 4), mean=unit, std=unit, cache_dir=str(tmp_path)),
            arrays={"x_train": pixels_, "y_train": labels},
        )
        found.append((loaded.split_hash, tuple(loaded.train.content.tolist())))
    assert found[0][0] != found[1][0] and not set(found[0][1]) & set(found[1][1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"canvas": c.Canvas(9, 8, 5, jpeg_decoding="reduced")},
            '^data.canvas.jpeg_decoding = "reduced" is for gray',
        ),
        ({"eval_canvas": c.Canvas(9, 8, 5)}, "^data.eval_canvas has 8 bits per channel and data.canvas has 16$"),
        ({"mean": (0.5,) * 3}, r"^data.mean has 3 values, but data.canvas has 5 channel\(s\)$"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        data.check(dataclasses.replace(settings(Arrays(), tmp_path), **changes))
