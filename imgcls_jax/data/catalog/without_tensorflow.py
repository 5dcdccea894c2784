"""Let tfds's own builders run without TensorFlow.

They take from it little more than files and two image codecs. While a set is prepared, `tf` in their modules is an
object that has just these, from Python and Pillow.
"""

import contextlib
import errno
import fnmatch
import io
import os
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.download import extractor
from tensorflow_datasets.core.features import image_feature

_JPEG_QUALITY = 95  # TensorFlow's


class _Bytes(bytes):
    """Stands for a tensor of one string."""

    def numpy(self) -> bytes:
        return bytes(self)


class _NoError(Exception):
    """Stands for an error of TensorFlow's file system, which is never raised here."""


@contextlib.contextmanager
def standing_in(builder: Any) -> Iterator[None]:
    """Put the stand-in in TensorFlow's place for a builder and what it calls.

    Args:
      builder: of tfds.
    """
    stand_in = _tensorflow()
    with contextlib.ExitStack() as stack:
        for module in (shuffle, extractor, sys.modules[type(builder).__module__]):
            if hasattr(module, "tf"):
                stack.enter_context(mock.patch.object(module, "tf", stand_in))
        stack.enter_context(mock.patch.object(image_feature._ImageEncoder, "_encode_image", _encode_array))
        yield


def _tensorflow() -> types.SimpleNamespace:
    space = types.SimpleNamespace
    gfile = space(
        GFile=open,
        exists=os.path.exists,
        glob=_glob,
        listdir=lambda path: sorted(os.listdir(path)),
        remove=os.remove,
        walk=os.walk,
    )
    return space(
        compat=space(as_bytes=lambda text: text.encode() if isinstance(text, str) else text),
        errors=space(ResourceExhaustedError=_NoError, UnimplementedError=_NoError),
        image=space(decode_image=_decode),
        io=space(gfile=gfile, encode_jpeg=lambda image: _Bytes(_encode(image, "jpeg"))),
        shape=np.shape,
    )


def _glob(pattern: str) -> list[str]:
    """Paths whose last part matches; TensorFlow's pattern of a folder is taken as it is."""
    folder, _, last = pattern.rpartition("/")
    return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if fnmatch.fnmatchcase(name, last)]


def _decode(content: bytes) -> UInt8[np.ndarray, "h w c"]:
    image: Image.Image = Image.open(io.BytesIO(content))
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _encode(pixels: UInt8[np.ndarray, "h w c"], kind: str) -> bytes:
    file = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if kind == "jpeg" else {}
    Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def _encode_array(encoder: Any, pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    """Replaces the method of tfds's that encodes an array by TensorFlow."""
    if pixels.dtype != np.uint8:
        raise OSError(errno.ENOTSUP, f"images of {pixels.dtype} cannot be encoded without TensorFlow")
    return _encode(np.ascontiguousarray(pixels), encoder.encoding_format)
