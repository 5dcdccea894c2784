"""The ONNX model of a graph, checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls_jax.errors import UserError
from imgcls_jax.export.onnx.simplify import simplify
from imgcls_jax.export.onnx.walk import trace

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 8
_LARGEST = 2**31 - 2**20  # bytes that a protobuf message can have, and room for what is not weights


def convert(
    function: Callable[..., Any], shape: Sequence[int], outputs: Sequence[str], sizes: Sequence[int], name: str
) -> "onnx.ModelProto":
    """Convert a JAX function of a uint8 batch `image` [batch, *shape] to an ONNX model.

    Args:
      function: gives a tuple of float32 arrays [batch, size].
      shape: height, width, channels.
      outputs, sizes: their names and second sizes.
      name: of the graph.

    Raises:
      UserError: the package onnx is not installed, an operation has no counterpart, or the model exceeds 2 GiB.
    """
    onnx = package()
    graph, names = trace(function, shape)
    for public, internal in zip(outputs, names, strict=True):
        graph.rename(internal, public)
    simplify(graph, outputs)
    if sum(array.nbytes for array in graph.constants.values()) > _LARGEST:
        raise UserError("the network has more than 2 GiB of weights, which one ONNX file cannot hold: use stablehlo")
    helper = onnx.helper
    batch = "batch"
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(node.op, node.inputs, [node.output], **node.attributes) for node in graph.nodes],
            name,
            [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [batch, *shape])],
            [
                helper.make_tensor_value_info(public, onnx.TensorProto.FLOAT, [batch, size])
                for public, size in zip(outputs, sizes, strict=True)
            ],
            [onnx.numpy_helper.from_array(np.asarray(a, order="C"), key) for key, a in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="imgcls_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def package() -> Any:
    """Import onnx, or say how to get it."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise UserError("ONNX needs the package onnx: run pip install 'imgcls_jax[onnx]'") from None
    return onnx


def describe(model: "onnx.ModelProto", properties: Mapping[str, str]) -> None:
    """Put texts by name into the model."""
    package().helper.set_model_props(model, dict(properties))
