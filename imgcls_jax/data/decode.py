"""Decode an image of any kind to a grayscale or RGB Pillow image."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt, UInt16
from PIL import ExifTags, Image, ImageOps

from imgcls_jax.config.data import Size
from imgcls_jax.data import arrays, image_formats
from imgcls_jax.data.examples import Encoded
from imgcls_jax.data.files import read_regular

_JPEG = ("JPEG", "MPO")
# Bytes in which a file's header is looked for first.
_HEAD = 2**16
# EXIF orientations: those that exchange height and width; whose left is the file's right or bottom; whose top is.
_TURNED, _FROM_LEFT, _FROM_TOP = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
# TIFF tags that Pillow leaves to us beyond 8 bits, and values of them.
BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of gray images of more than 8 bits."""


class Decoded(NamedTuple):
    """An upright image, possibly decoded at a reduced size."""

    image: Image.Image
    """Of mode L or RGB."""
    size: Size
    """Size of the original image."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, in pixels of `image`, of what the original shows: the last pixel of a reduced row or
    column stands for more pixels than the original may have."""


class UnreadableImageError(Exception):
    """An image that cannot be used; the message is the reason."""


class TooManyPixelsError(UnreadableImageError):
    """An image that is larger than what is decoded."""

    def __init__(self, size: Size, most: int):
        height, width = size
        super().__init__(
            f"{width:,}×{height:,} pixels exceed the {most / 1e6:g} megapixels of data.canvas.max_megapixels"
        )
        self.pixels, self.most = height * width, most


class Limits(NamedTuple):
    """What one image may cost."""

    pixels: int = 500_000_000
    """Largest number of pixels that are decoded."""
    file_bytes: int = 2 * 2**30
    """Largest file, bytes."""


def decode(
    encoded: Encoded | Image.Image,
    channels: int,
    needed: Callable[[Size], Size] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a tuple, which nobody can change
) -> Decoded:
    """Decode the first frame of an image, upright, as 8-bit grayscale or RGB.

    Files are of `image_formats.FORMATS`, by their content; no other parser is started.

    - EXIF orientation is applied.
    - Grayscale of 12 and 16 bits keeps its range: 65535 becomes 255 (Pillow's own conversion clips at 255), or 0 in
      TIFFs whose white is zero.
    - Transparent images are laid on white, the color of the page that line drawings and logos are made for.
    - CMYK becomes RGB by Pillow's formula without color profiles; palettes are looked up.

    Args:
      encoded: a file, the bytes of a file, uint8 or uint16 pixels, or an image of Pillow's, which stays as it is.
      channels: 1: grayscale (ITU-R 601 luma); 3: RGB.
      needed: returns the size that is needed, given the full size of the upright image. A JPEG is then decoded at 1/2,
        1/4 or 1/8 of its size if neither side becomes smaller than that: libjpeg computes fewer pixels from each
        block's cosine coefficients. None: at its full size, as images of other formats always are.
      limits: a file or an image that exceeds them is refused.

    Raises:
      UnreadableImageError: the image cannot be used, whatever is wrong with it; the message is the reason.
    """
    if isinstance(encoded, np.ndarray):
        return _whole(convert(_of_array(encoded), channels))
    with reasons():
        if isinstance(encoded, Image.Image):
            return _whole(convert(_upright_copy(encoded), channels))
        content = contents(encoded, limits)
        if arrays.is_array(content):
            return _whole(convert(_of_array(array(content, limits)), channels))
        return _decode_any(content, channels, needed, limits)


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Within it, make UnreadableImageError of whatever decoding raises."""
    try:
        yield
    except UnreadableImageError:
        raise
    except image_formats.UnknownFormatError as error:
        raise UnreadableImageError(str(error)) from None
    except Exception as error:  # Pillow's plugins raise SyntaxError, struct.error, EOFError … on damaged files.
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def array(content: bytes, limits: Limits) -> UInt[np.ndarray, "h w c"]:
    """Read the bytes of an .npy file as pixels of 8 or 16 bits.

    Raises:
      UnreadableImageError: it is damaged, too large, or not an image; the message is the reason.
    """
    try:
        return arrays.read(content, limits.pixels)
    except arrays.NoImageError as error:
        raise UnreadableImageError(str(error)) from None


def _of_array(pixels: np.ndarray) -> Image.Image:
    """Make a gray or RGB image of 8 bits, or one with opacity."""
    shape = (*pixels.shape, 1)[2]
    if shape not in (1, 3, 4):
        raise UnreadableImageError(f"{shape} channels, which are neither gray nor RGB: set data.canvas.channels")
    eight = arrays.scaled(pixels, 255)
    return Image.fromarray(eight[..., 0] if eight.shape[2:] == (1,) else eight)


def contents(encoded: bytes | Path, limits: Limits) -> bytes:
    """Return the bytes of an encoded image, those of a file read from it.

    Raises:
      UnreadableImageError: the file cannot be read, is empty or too large; the message is the reason.
    """
    content = _content(encoded, limits.file_bytes) if isinstance(encoded, Path) else encoded
    if not content:
        raise UnreadableImageError("the file is empty (0 bytes)")
    if len(content) > limits.file_bytes:
        raise UnreadableImageError(f"{len(content):,} bytes exceed the {limits.file_bytes:,} of data.canvas")
    return content


def _content(path: Path, most: int, head: int | None = None) -> bytes:
    try:
        return read_regular(path, most, head)
    except FileNotFoundError:
        raise UnreadableImageError("there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableImageError(getattr(error, "strerror", None) or str(error)) from error


def _decode_any(content: bytes, channels: int, needed: Callable[[Size], Size] | None, limits: Limits) -> Decoded:
    try:
        return _decode_bytes(content, channels, needed, limits)
    except UnreadableImageError:
        raise
    except Exception:
        # A PNG may be sound but for what it says beside its pixels, a TIFF but for the way in which it is written.
        if (bare := image_formats.without_png_metadata(content)) is not None:
            return _decode_bytes(bare, channels, needed, limits)
        if (negative := image_formats.with_black_as_zero(content)) is not None:
            decoded = _decode_bytes(negative, channels, needed, limits)
            return decoded._replace(image=ImageOps.invert(decoded.image))
        raise


def _decode_bytes(content: bytes, channels: int, needed: Callable[[Size], Size] | None, limits: Limits) -> Decoded:
    with image_formats.opened(content, limits.pixels) as image:
        shown = _reduce(image, needed) if needed is not None and image.format in _JPEG else None
        # A progressive JPEG is held at its full size while it is decoded at a smaller one.
        full = shown[0] if shown and image.info.get("progressive") else _size(image)
        if full[0] * full[1] > limits.pixels:
            raise TooManyPixelsError(full, limits.pixels)
        with image_formats.large(image, limits.pixels):
            image.load()
            turn_upright(image)
            converted = convert(image, channels)
            return Decoded(converted, *shown) if shown else _whole(converted)


def original_size(encoded: Encoded) -> Size:
    """Read the size of an upright image, from a file's header only.

    Raises:
      UnreadableImageError: the header cannot be read; the message is the reason.
    """
    if isinstance(encoded, np.ndarray):
        return encoded.shape[0], encoded.shape[1]
    try:
        if isinstance(encoded, Path):
            # Most headers are in the first bytes, and reading whole files of a large set takes long.
            with contextlib.suppress(Exception):
                return _header_size(_content(encoded, Limits().file_bytes, _HEAD))
            encoded = _content(encoded, Limits().file_bytes)
        if arrays.is_array(encoded):
            return arrays.size(encoded)
        try:
            return _header_size(encoded)
        except Exception:
            sound = image_formats.without_png_metadata(encoded) or image_formats.with_black_as_zero(encoded)
            if sound is None:
                raise
            return _header_size(sound)
    except UnreadableImageError:
        raise
    except arrays.NoImageError as error:
        raise UnreadableImageError(str(error)) from None
    except Exception as error:
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def _header_size(content: bytes) -> Size:
    with image_formats.opened(content, Limits().pixels) as image:
        return _upright(_size(image), _orientation(image))


def _whole(image: Image.Image) -> Decoded:
    return Decoded(image, _size(image), (0, 0, *image.size))


def _reduce(image: Image.Image, needed: Callable[[Size], Size]) -> tuple[Size, tuple[float, float, float, float]]:
    """Tell libjpeg, before it decodes, by how much it may reduce; return `size` and `box` of `Decoded`."""
    orientation = _orientation(image)
    full = _upright(_size(image), orientation)
    room = min(side // least for side, least in zip(full, needed(full), strict=True))
    factor = next((power for power in (8, 4, 2) if power <= room), 1)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    height, width = full[0] / factor, full[1] / factor
    reduced = _upright(_size(image), orientation)
    left = reduced[1] - width if orientation in _FROM_LEFT else 0.0
    top = reduced[0] - height if orientation in _FROM_TOP else 0.0
    return full, (left, top, left + width, top + height)


def _size(image: Image.Image) -> Size:
    return image.height, image.width


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none or the EXIF data are damaged."""
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _upright(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation in _TURNED else size


def turn_upright(image: Image.Image) -> None:
    """Apply the EXIF orientation of an image."""
    # Damaged EXIF data is no reason to lose an image whose pixels are fine.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _upright_copy(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Damaged EXIF data is no reason to lose an image whose pixels are fine.
        return image.copy()


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to gray (1 channel) or RGB (3) of 8 bits; see `decode`.

    Raises:
      UnreadableImageError: the range of its pixels is unknown.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in SIXTEEN_BIT or image.mode == "I":
        image = _from_sixteen_bits(image)
    elif image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range is unknown; store the image with 8 or 16 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert(mode)


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Return grayscale of 12 or 16 bits with 8, black to white."""
    values, white = sixteen_bits(image)
    return Image.fromarray(arrays.scaled(values, 255, white))


def sixteen_bits(image: Image.Image) -> tuple[UInt16[np.ndarray, "h w"], int]:
    """Return the values of grayscale of 12 or 16 bits, from black as 0, and that of white.

    Raises:
      UnreadableImageError: it has another depth, whose range is unknown.
    """
    tags = getattr(image, "tag_v2", None) or {}
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    if bits not in (12, 16):
        raise UnreadableImageError(f"{bits}-bit pixels, whose range is unknown; store the image with 8 or 16 bits")
    if tags.get(_SAMPLE_FORMAT, (1,))[0] != _UNSIGNED:
        raise UnreadableImageError("signed pixels, whose range is unknown; store the image with 8 or 16 bits")
    values, white = np.asarray(image).astype(np.int64), 2**bits - 1
    if values.size and (values.min() < 0 or values.max() > white):
        raise UnreadableImageError("32-bit pixels, whose range is unknown; store the image with 8 or 16 bits")
    return (white - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values).astype(np.uint16), white
