"""Refuse settings of the data that contradict each other, before any image is read."""

from imgcls_jax import config as c
from imgcls_jax.errors import UserError


def check(data: c.Data) -> None:
    """Raise UserError for the first setting that contradicts another one."""
    channels = data.canvas.channels
    for name, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != channels:
            raise UserError(f"data.{name} has {len(values)} values, but data.canvas has {channels} channel(s)")
    if any(not 0 <= m <= 1 for m in data.mean):
        raise UserError(f"data.mean = {data.mean} must lie in [0, 1], where 0 is black and 1 is white")
    if any(s > 1 for s in data.std):
        raise UserError(f"data.std = {data.std} must lie in (0, 1], on the scale where 0 is black and 1 is white")
    for name, canvas in (("canvas", data.canvas), ("eval_canvas", data.eval_canvas)):
        if canvas is None:
            continue
        if canvas.channels != channels:
            raise UserError(f"data.{name} has {canvas.channels} channel(s) and data.canvas has {channels}")
        if canvas.depth != data.canvas.depth:
            raise UserError(f"data.{name} has {canvas.depth} bits per channel and data.canvas has {data.canvas.depth}")
        if not canvas.is_picture and canvas.jpeg_decoding == "reduced":
            raise UserError(
                f'data.{name}.jpeg_decoding = "reduced" is for gray and RGB images of 8 bits: leave it out, with '
                f"channels={canvas.channels} and depth={canvas.depth}"
            )
        height, width = data.image_size
        if height > canvas.height or width > canvas.width:
            raise UserError(
                f"data.image_size = {height}×{width} is larger than data.{name} = {canvas.height}×{canvas.width}: "
                f"make the canvas at least as large"
            )
    data.source.check(data)
