"""Convolutions by oneDNN, the library whose kernels torch runs on a processor, inside of an XLA program.

jaxlib's builds for Linux on x86 contain it. XLA's CPU backend runs it where a program names the custom call
`__onednn$convolution`, but does not choose it by itself. The fields of the call are those of onednn_config.proto in
openxla/xla; it computes in NHWC and HWIO, accumulates in float32, and knows no gradients, which are written here as
convolutions.

Two things bound its use. What oneDNN refuses ends the process, so it is given to those versions and processors alone
that it was tested with. And a program with this call must stay out of the compile cache (`uncached`): while it is
serialized, XLA takes the call for one of another kind, and reads what is not there.
"""

import contextlib
import functools
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.xla import target

_VERSIONS = ("0.10.2", "0.12.0")
_FEATURES = {"fp32": "avx512f", "bf16": "avx512_bf16"}
"""Precision → the flag in /proc/cpuinfo of processors that compute in it."""
_PART = 2**23
"""Bytes of images and of their outputs' gradients that `kernel_gradient` takes at a time."""


def missing(precision: str, devices: int = 1) -> str | None:
    """Tell what of a run or of this machine is not as it must be, in part of a sentence; None if all is."""
    if devices > 1:
        return "it serves one device, not several"
    if precision not in _FEATURES:
        return f'it does not compute in precision "{precision}"'
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "jaxlib has it on Linux on x86 alone"
    if not version("jaxlib").startswith(_VERSIONS):
        return f"it was tested with jaxlib {' and '.join(_VERSIONS)}, not {version('jaxlib')}"
    if (feature := _FEATURES[precision]) not in _processor():
        return f'its kernels of precision "{precision}" need a processor with {feature}'
    return None


@functools.cache
def _processor() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Within it, no program that is compiled is written to the compile cache."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs  # type: ignore[attr-defined]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    try:
        yield
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def serves(x: Float[Array, "b h w c"], groups: int) -> bool:
    """Tell whether convolutions of such images are to be oneDNN's in what is being traced."""
    return target.current().onednn and groups == 1 and x.dtype in (jnp.float32, jnp.bfloat16)


def convolution(
    x: Float[Array, "b h w c"],
    kernel: Float[Array | np.ndarray, "kh kw c e"],
    *,
    pads: Sequence[tuple[int, int]],
    stride: int = 1,
) -> Float[Array, "b h2 w2 e"]:
    """A convolution with zeros before and behind each side (fewer than none: pixels cut off)."""
    return _call(x, jnp.asarray(kernel), pads, [stride] * 2, [1] * 2, x.dtype)


def gains_by_kernel_gradient(x: Float[Array, "b h w c"], kernel: Float[Array | np.ndarray, "kh kw c e"]) -> bool:
    """Tell whether `kernel_gradient` is faster than XLA's way, as measured on an AMD EPYC (Zen 4).

    In bfloat16, for which XLA has no kernels, it always is; in float32 unless the kernel is 1×1 or channels are few.
    """
    return x.dtype == jnp.bfloat16 or (kernel.shape[0] > 1 and x.shape[3] >= 24)


def kernel_gradient(
    x: Float[Array, "b h w c"],
    kernel: Float[Array | np.ndarray, "kh kw c e"],
    g: Float[Array, "b h2 w2 e"],
    *,
    pads: Sequence[tuple[int, int]],
    stride: int,
) -> Float[Array, "kh kw c e"]:
    """The gradient of a convolution by its kernel (of `kernel` only the shape counts).

    As one of three dimensions, so that the matrices that oneDNN multiplies are large: the image's rows, columns and
    channels are its image, the batch its channels, and `g` its kernel, one tap deep along the channels. A part of the
    batch at a time, because every tap reads all of it: of 256 images of 15×15 with 64 and 256 channels it is computed
    at 158 in place of 105 GFLOP/s, and of bfloat16 at 396 in place of 278.
    """

    def add(total: Array, part: tuple[Array, ...]) -> tuple[Array, None]:
        image, taps = part[0].transpose(1, 2, 3, 0)[None], part[1].transpose(1, 2, 0, 3)[:, :, None]
        found = _call(image, taps, [*pads, (0, 0)], [1] * 3, [stride, stride, 1], jnp.float32)
        return total + found[0], None

    size = _divisor(x.shape[0], at_most=_PART // ((x.size + g.size) // x.shape[0] * x.dtype.itemsize))
    parts = tuple(array.reshape(-1, size, *array.shape[1:]) for array in (x, g))
    total = jnp.zeros(kernel.shape, jnp.float32)
    return jax.lax.scan(add, total, parts)[0].astype(x.dtype)


def _divisor(number: int, *, at_most: int) -> int:
    """The greatest divisor up to a bound; the number itself where there is none of 8 or more."""
    return next((size for size in range(min(number, at_most), 7, -1) if number % size == 0), number)


def _call(
    x: Float[Array, "b *sides c"],
    kernel: Float[Array, "*window c e"],
    pads: Sequence[tuple[int, int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    dtype: DTypeLike,
) -> Float[Array, "b *outs e"]:
    sides = range(1, x.ndim - 1)
    cut = [slice(max(-low, 0), x.shape[side] - max(-high, 0)) for side, (low, high) in zip(sides, pads, strict=True)]
    x = x[:, *cut]
    pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    outs = [
        (x.shape[side] + low + high - (window - 1) * dilation - 1) // stride + 1
        for side, (low, high), window, dilation, stride in zip(
            sides, pads, kernel.shape, dilations, strides, strict=False
        )
    ]
    images = {"batch_dim": 0, "feature_dim": x.ndim - 1, "spatial_dims": list(sides)}
    kernels = {
        "input_feature_dim": x.ndim - 2,
        "output_feature_dim": x.ndim - 1,
        "spatial_dims": [side - 1 for side in sides],
        "shape": kernel.shape,
    }
    convolution = {
        "dims": x.ndim,
        "input": {"dims": x.ndim, "data": images},
        "kernel": {"dims": x.ndim, "filter": kernels},
        "output": {"dims": x.ndim, "data": images},
        "window": {
            "size": kernel.shape[:-2],
            "pad_left": [low for low, _ in pads],
            "pad_right": [high for _, high in pads],
            "strides": strides,
            "window_dilations": dilations,
        },
        "feature_groups": 1,
    }
    return jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *outs, kernel.shape[-1]), dtype),
        vmap_method="sequential",
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": convolution}),
    )(x, kernel)
