"""ONNX models whose weights take half the bytes, or a quarter."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt8

from imgcls_jax.errors import UserError
from imgcls_jax.export.onnx import write

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "int8"]
"""What weights are stored as."""

# Smaller constants, and those of one axis, are means and biases, which gain nothing.
_LEAST_ELEMENTS = 64
_CALIBRATION_BATCH = 32
# What an int8 processor computes, with what cuts off the values behind it, so that no level is spent on those; all else
# stays float32.
_INTEGER_OPS = ("Conv", "Gemm", "MatMul", "Relu", "Clip")


def store_halves(model: "onnx.ModelProto") -> None:
    """Store weights as float16, behind a cast to float32 in which everything is computed.

    A weight that float16 cannot hold (beyond 65,504) stays as it is, with all of its array.
    """
    onnx = write.package()
    casts = []
    for constant in model.graph.initializer:
        is_weight = len(constant.dims) > 1 and math.prod(constant.dims) >= _LEAST_ELEMENTS
        if constant.data_type != onnx.TensorProto.FLOAT or not is_weight:
            continue
        with np.errstate(over="ignore"):
            halves = onnx.numpy_helper.to_array(constant).astype(np.float16)
        if not np.isfinite(halves).all():
            continue
        name, stored = constant.name, f"{constant.name}_half"
        constant.CopyFrom(onnx.numpy_helper.from_array(halves, stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


def quantize(model: "onnx.ModelProto", images: Sequence[UInt8[np.ndarray, "H W c"]]) -> "onnx.ModelProto":
    """Compute convolutions and products in int8, with a scale for each output channel of the weights.

    The scale of each activation is fixed: by the least and the greatest value that it takes on `images`.

    Args:
      model: of float32.
      images: canvases, such as training images.

    Raises:
      UserError: onnxruntime is not installed, or there is no image.
    """
    onnx = write.package()
    try:
        from onnxruntime import quantization
    except ImportError:
        raise UserError("int8 needs the package onnxruntime: run pip install 'imgcls_jax[onnx]'") from None
    if not len(images):
        raise UserError("int8 needs images to measure activations on: give some, such as training images")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Any]] = (
                {"image": np.stack(images[start : start + _CALIBRATION_BATCH])}
                for start in range(0, len(images), _CALIBRATION_BATCH)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    # Without it, onnxruntime recommends a preparation whose work our own simplification has done.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_INTEGER_OPS),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            # Logits of 256 levels would make equals of near classes.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
        made = onnx.load(str(path))
    del made.metadata_props[:]
    onnx.checker.check_model(made, full_check=True)
    return made  # type: ignore[no-any-return]


def run(model: "onnx.ModelProto", images: UInt8[np.ndarray, "n H W c"], outputs: Sequence[str]) -> list[np.ndarray]:
    """Run a model on this machine's CPU, by onnxruntime.

    Raises:
      UserError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "a precision other than fp32 needs the package onnxruntime, which computes what such a file should give: "
            "run pip install 'imgcls_jax[onnx]'"
        ) from None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs), {"image": images})
