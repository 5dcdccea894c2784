"""Adapt the first convolution of a network for color images to images of other channels."""

import numpy as np
from jaxtyping import Float

_COLORS = 3


def fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a kernel [h, w, inputs, outputs] differs from the one wanted in its three inputs alone."""
    return (
        len(found) == len(wanted) == 4
        and found[2] == _COLORS != wanted[2]
        and (*found[:2], found[3]) == (*wanted[:2], wanted[3])
    )


def adapted(kernel: Float[np.ndarray, "h w 3 out"], channels: int) -> Float[np.ndarray, "h w c out"]:
    """Make a kernel for `channels` inputs of one for red, green and blue, by timm's rule (`adapt_input_conv`).

    One channel: the sum over the colors, which makes of a gray image what the network makes of it as RGB. More: the
    colors are repeated in their order, cut off, and scaled by 3 / channels, which keeps the size of the sums.
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.concatenate([kernel] * -(-channels // _COLORS), axis=2)[:, :, :channels]
    return repeated * np.asarray(_COLORS / channels, kernel.dtype)


def note(path: str, channels: int) -> str:
    """Say what was done to a kernel."""
    how = "summed over the colors" if channels == 1 else f"its colors repeated and scaled by {_COLORS}/{channels}"
    return f"{path} was made for RGB and is adapted to {channels} channel{'s'[: channels > 1]}: {how}"
