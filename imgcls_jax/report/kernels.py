"""Draw the kernels of a network's first convolution as one picture."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.errors import UserError

# Pixels between two kernels before enlargement, and about how wide a kernel is after it.
_GAP = 1
_WIDTH = 48


def first_convolution(model: c.Model, params: Mapping[str, np.ndarray]) -> tuple[str, Float[np.ndarray, "h w c n"]]:
    """Find the convolution that takes the image; return its path and its kernel.

    Args:
      model: the architecture, which knows the order of its layers.
      params: all parameters by path.

    Raises:
      UserError: the model has no convolution.
    """
    for path in model.torch_order(params):
        if np.ndim(params[path]) == 4:
            return path, np.asarray(params[path])
    raise UserError("the model has no convolution whose kernels could be shown")


def grid(kernel: Float[np.ndarray, "h w c n"], columns: int = 8) -> UInt8[np.ndarray, "H W 3"]:
    """Draw all n kernels, row by row, on white, enlarged without smoothing.

    The lowest weight of all kernels is black and the highest is white, so that kernels can be compared. A kernel of
    three input channels is shown in color, one of a single channel in gray.
    """
    height, width, _, count = kernel.shape
    low, high = float(kernel.min()), float(kernel.max())
    scaled = np.rint(255 * (kernel - low) / (high - low or 1.0)).astype(np.uint8)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 255, np.uint8)
    for i in range(count):
        row, column = divmod(i, columns)
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        sheet[top : top + height, left : left + width] = scaled[..., i]  # one channel is repeated into three
    enlarged = max(1, round(_WIDTH / width))
    return sheet.repeat(enlarged, axis=0).repeat(enlarged, axis=1)


def picture(kernel: Float[np.ndarray, "h w c n"], columns: int = 8) -> Image.Image:
    """Draw `grid` as a Pillow image."""
    return Image.fromarray(grid(kernel, columns))
