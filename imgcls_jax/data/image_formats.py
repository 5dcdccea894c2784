"""Open the image formats that are read, and no others, with Pillow; Pillow itself starts any of forty parsers, some of
which start programs."""

import contextlib
import importlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)


def _reads_avif() -> bool:
    """Register Pillow's own plugin for AVIF, which it has from 11.3 on, and not in every build."""
    try:
        plugin = importlib.import_module("PIL.AvifImagePlugin")
    except ImportError:
        return False
    return plugin.SUPPORTED


def _reads_heif() -> bool:
    """Register the plugin for HEIF of a package of its own, if one is installed."""
    for name in ("pi_heif", "pillow_heif"):
        try:
            importlib.import_module(name).register_heif_opener()
        except ImportError:
            continue
        return True
    return False


# Each format has Pillow's name, and the suffixes of its files.
_SUFFIXES = {
    JpegImagePlugin.JpegImageFile.format: (".jpg", ".jpeg", ".jpe", ".jfif"),
    PngImagePlugin.PngImageFile.format: (".png",),
    GifImagePlugin.GifImageFile.format: (".gif",),
    BmpImagePlugin.BmpImageFile.format: (".bmp",),
    WebPImagePlugin.WebPImageFile.format: (".webp",),
    TiffImagePlugin.TiffImageFile.format: (".tif", ".tiff"),
    PpmImagePlugin.PpmImageFile.format: (".ppm", ".pgm", ".pbm"),
}
if _reads_avif():
    _SUFFIXES["AVIF"] = (".avif",)
if _reads_heif():
    _SUFFIXES["HEIF"] = (".heic", ".heif")

FORMATS = tuple(_SUFFIXES)
"""Pillow's names of the formats that are read. Importing the plugins registers them."""

SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""Files with other suffixes are not images; case does not matter."""

_names = [{"PPM": "PNM", "WEBP": "WebP", "HEIF": "HEIC"}.get(name, name) for name in FORMATS]
KNOWN = f"{', '.join(_names[:-1])} or {_names[-1]}"
"""The formats that are read, for messages."""

REMEDIES = {
    ".heic": "pip install pi-heif, or convert them to JPEG",
    ".heif": "pip install pi-heif, or convert them to JPEG",
    ".avif": "pip install 'pillow>=11.3', or convert them to JPEG",
}
"""What to do about files of these suffixes where they are not among `SUFFIXES`."""

# How other files begin that are often met under an image's name.
_OTHERS = {
    b"%!PS": "a PostScript file",
    b"%PDF": "a PDF file",
    b"<htm": "a web page",
    b"<!do": "a web page",
    b"<svg": "an SVG drawing",
    b"<?xm": "an SVG drawing or another XML file",
}
_PNG = b"\x89PNG\r\n\x1a\n"
# What the pixels need, and the orientation.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_EXIF = b"eXIf"

# The tag of a TIFF that says whether black or white is zero, and the type of its value.
_PHOTOMETRIC, _SHORT = 262, 3

# From this number of pixels on, images are decoded one at a time, so that threads do not multiply their memory. It is
# where Pillow begins to warn.
_LARGE = 2**30 // 12
_one_at_a_time = threading.RLock()


class UnknownFormatError(Exception):
    """Content in none of the formats that are read; the message is the reason."""


@contextlib.contextmanager
def opened(content: bytes, most: int) -> Iterator[Image.Image]:
    """Open an image without decoding it.

    Args:
      content: the bytes of a file.
      most: number of pixels up to which an image may be opened. The caller compares: this only lifts Pillow's own limit
        where a format needs that.

    Raises:
      UnknownFormatError: it is in none of `FORMATS`.
      Exception: of Pillow's plugins, on damaged files.
    """
    failure: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(content[:16]) is not True:
            continue
        try:
            # Not Image.open, whose limit on pixels is one for the whole process.
            image = factory(io.BytesIO(content), "")
        except Image.DecompressionBombError:
            with _pillow_allows(most):
                image = factory(io.BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            failure = error
            continue
        with image:
            yield image
        return
    if failure is not None:
        raise failure
    raise UnknownFormatError(_unknown(content))


@contextlib.contextmanager
def large(image: Image.Image, most: int) -> Iterator[None]:
    """Wait, before a large image is decoded, until no other one is; Pillow's limit is lifted to `most` pixels."""
    if image.width * image.height <= _LARGE:
        yield
        return
    with _pillow_allows(most):
        yield


@contextlib.contextmanager
def _pillow_allows(most: int) -> Iterator[None]:
    with _one_at_a_time:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def without_png_metadata(content: bytes) -> bytes | None:
    """Return a PNG without what it says beside its pixels, such as texts and color profiles; None for other files.

    Pillow refuses a PNG for texts of more than 1 MiB and for damage in them, which no viewer does.
    """
    if not content.startswith(_PNG):
        return None
    kept, position = [_PNG], len(_PNG)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        chunk = content[position : position + 12 + length]
        kind = chunk[4:8]
        sound = len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind in _PNG_PIXELS or (kind == _PNG_EXIF and sound):
            kept.append(chunk)
        position += len(chunk)
    return b"".join(kept)


def with_black_as_zero(content: bytes) -> bytes | None:
    """Return a TIFF whose white is zero, marked as one whose black is; None for other files.

    Pillow knows the former at few depths and byte orders. The caller inverts the pixels.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", content, entry)
            if (tag, kind, values, value) == (_PHOTOMETRIC, _SHORT, 1, 0):
                return content[: entry + 8] + struct.pack(order + "H", 1) + content[entry + 10 :]
    except struct.error:  # a damaged file
        pass
    return None


def _unknown(content: bytes) -> str:
    text = content[:64].lstrip().lower()
    if content[4:8] == b"ftyp":
        kind = content[8:12].decode("latin-1").strip()
        remedy = REMEDIES[".avif" if kind in ("avif", "avis") else ".heic"].partition(",")[0]
        what = f"a file of the kind {kind} (HEIC, AVIF or a film; for the former, {remedy})"
    else:
        what = next((kind for start, kind in _OTHERS.items() if text.startswith(start.lower())), "")
    known = f"not a {KNOWN} image"
    return f"{known} but {what}" if what else known
