"""Images that are arrays of numbers: .npy files, and a change of depth."""

import io
import math

import numpy as np
from jaxtyping import Shaped, UInt

from imgcls_jax.config.data import Size

SUFFIX = ".npy"
MOST_CHANNELS = 16

_MAGIC = b"\x93NUMPY"


class NoImageError(Exception):
    """An array that is no image; the message is the reason."""


def is_array(content: bytes) -> bool:
    """Return whether the content of a file is that of an .npy file."""
    return content.startswith(_MAGIC)


def read(content: bytes, most: int) -> UInt[np.ndarray, "h w c"]:
    """Read the bytes of an .npy file: uint8 or uint16, bool (black and white), or floats, 0 to 1, as 16 bits.

    Args:
      content: of the file, an array [h, w] or [h, w, c] with 1 to 16 channels.
      most: pixels that it may have.

    Raises:
      NoImageError: it is damaged, or another array.
    """
    height, width = size(content)
    if height * width > most:
        raise NoImageError(
            f"{width:,}×{height:,} pixels exceed the {most / 1e6:g} megapixels of data.canvas.max_megapixels"
        )
    shape, dtype = _header(content)
    if math.prod(shape) * dtype.itemsize > len(content):
        raise NoImageError("a damaged .npy file: it ends early")
    try:
        pixels = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # ValueError, EOFError, by the damage
        raise NoImageError(f"a damaged .npy file: {error}") from error
    return _as_pixels(pixels if pixels.ndim == 3 else pixels[..., None])


def size(content: bytes) -> Size:
    """Read the height and width of an .npy file from its header.

    Raises:
      NoImageError: it is damaged, or no image.
    """
    shape, dtype = _header(content)
    channels = (*shape, 1)[2] if len(shape) > 1 else 0
    if len(shape) not in (2, 3) or not 1 <= channels <= MOST_CHANNELS or not math.prod(shape):
        last = ": move the channels last" if len(shape) == 3 and 1 <= shape[0] <= MOST_CHANNELS else ""
        raise NoImageError(
            f"an array {list(shape)}, not [height, width] or [height, width, 1 to {MOST_CHANNELS} channels]{last}"
        )
    if dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.bool_) and dtype.kind != "f":
        raise NoImageError(f"{dtype} pixels, whose range is unknown; store uint8, uint16, or floats from 0 to 1")
    return shape[0], shape[1]


def scaled(pixels: UInt[np.ndarray, "*shape"], white: int, before: int | None = None) -> UInt[np.ndarray, "*shape"]:
    """Change the depth of pixels, to the nearest value: black stays black, and white becomes `white`, 255 or 65535.

    Args:
      pixels: uint8 or uint16.
      white: the greatest value after.
      before: the greatest value now; None: that of the type.
    """
    before = before or int(np.iinfo(pixels.dtype).max)
    if before != white:
        pixels = (pixels.astype(np.uint32) * white + before // 2) // before
    return pixels.astype(np.uint8 if white == 255 else np.uint16)


def _header(content: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type, without the evaluation of anything else."""
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)
    except Exception as error:  # ValueError, KeyError, SyntaxError, by the damage
        raise NoImageError(f"a damaged .npy file: {error}") from error
    return shape, dtype


def _as_pixels(pixels: Shaped[np.ndarray, "h w c"]) -> UInt[np.ndarray, "h w c"]:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind != "f":
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    if not np.isfinite(pixels).all():
        raise NoImageError("pixels that are not finite")
    if pixels.min() < 0 or pixels.max() > 1:
        raise NoImageError(
            f"floats from {pixels.min():g} to {pixels.max():g}, whose range is unknown; scale them so that black is 0 "
            "and white is 1"
        )
    return np.rint(pixels.astype(np.float64) * 65535).astype(np.uint16)
