"""Small pictures inside a page, as data: addresses, no more bytes of them than a page may have."""

import base64
import io

import numpy as np
from jaxtyping import UInt
from PIL import Image, features

from imgcls_jax.display import pictures
from imgcls_jax.inference.explanation import Explanation
from imgcls_jax.report import explained

SIDE = 96
"""Pixels that larger images are reduced to; smaller ones are enlarged by the browser, pixel by pixel."""
_QUALITY = 70


class Album:
    """Makes pictures until the bytes are used up."""

    def __init__(self, size: int):
        """`size`: bytes of all pictures together."""
        self._left = size
        self._webp = features.check("webp")
        self.is_full = False
        """Whether a picture has been left out."""

    def add(self, image: UInt[np.ndarray, "h w c"] | Image.Image) -> str | None:
        """Return the address of a picture; None where there is no room left."""
        if isinstance(image, np.ndarray):
            image = pictures.enlarged(image, 1)
        small = max(image.size) < SIDE
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        if self._webp:
            image.save(content, "WEBP", quality=100 if small else _QUALITY, lossless=small, method=4)
        else:
            image.save(content, "PNG", optimize=True)
        address = f"data:image/{'webp' if self._webp else 'png'};base64,{base64.b64encode(content.getvalue()).decode()}"
        if len(address) > self._left:
            self.is_full = True
            return None
        self._left -= len(address)
        return address

    def add_heat(self, one: Explanation) -> str | None:
        """Return the address of an image under its map; None where there is no room left."""
        return self.add(explained.heated(one, SIDE))
