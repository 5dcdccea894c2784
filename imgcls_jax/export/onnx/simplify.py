"""Make a graph small: affine maps vanish in the layer before them, and patterns become ONNX's own operators."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from imgcls_jax.export.onnx.graph import Graph, Node
from imgcls_jax.export.onnx.patterns import Patterns

_AFFINE = ("Add", "Sub", "Mul", "Div")
LINEAR = "Linear"
"""A product with known weights and perhaps a bias, until `finish` writes it as Gemm or MatMul and Add."""


def simplify(graph: Graph, outputs: Sequence[str]) -> None:
    """Rewrite the graph, whose outputs keep their names and their values but for float32's rounding."""
    _drop_unused(graph, outputs)
    Patterns(graph).replace()
    _drop_unused(graph, outputs)
    for node in graph.nodes:
        if node.op == "MatMul" and node.inputs[1] in graph.constants and graph.ranks[node.inputs[1]] == 2:
            node.op = LINEAR
    _fold(graph, outputs)
    _merge(graph, outputs)
    _finish(graph)
    _drop_unused(graph, outputs)


def _drop_unused(graph: Graph, outputs: Sequence[str]) -> None:
    wanted = set(outputs)
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
    graph.drop(wanted)


def _uses(graph: Graph, outputs: Sequence[str]) -> Counter[str]:
    return Counter([*outputs, *(name for node in graph.nodes for name in node.inputs)])


def _affine(graph: Graph, node: Node) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Give (x, scale, shift), float64 of x's rank, where the node computes scale · x + shift of known numbers."""
    if node.op == "Neg":
        ones = np.ones((1,) * graph.ranks[node.inputs[0]])
        return node.inputs[0], -ones, 0 * ones
    if node.op not in _AFFINE:
        return None
    known = [name in graph.constants for name in node.inputs]
    if sum(known) != 1 or (node.op == "Div" and known[0]):
        return None
    x, number = node.inputs[known.index(False)], graph.constants[node.inputs[known.index(True)]]
    rank = graph.ranks[x]
    if number.ndim > rank or not np.issubdtype(number.dtype, np.floating):
        return None
    number = number.astype(np.float64).reshape((1,) * (rank - number.ndim) + number.shape)
    one, zero = np.ones((1,) * rank), np.zeros((1,) * rank)
    match node.op:
        case "Add":
            return x, one, number
        case "Sub":
            return (x, -one, number) if known[0] else (x, one, -number)
        case "Mul":
            return x, number, zero
    return x, 1 / number, zero


def _varies(numbers: np.ndarray) -> list[int]:
    return [axis for axis, size in enumerate(numbers.shape) if size != 1]


def _fold(graph: Graph, outputs: Sequence[str]) -> None:
    """Put what is scaled and shifted behind a convolution or a linear layer into its weights, in float64."""
    uses, makers = _uses(graph, outputs), {node.output: node for node in graph.nodes}
    kept = []
    for node in graph.nodes:
        found = _affine(graph, node)
        maker = makers.get(found[0]) if found else None
        if found and maker and uses[found[0]] == 1 and _put_into(graph, maker, *found[1:]):
            # The layer now makes what the dropped node made.
            maker.output = node.output
            graph.ranks[maker.output] = graph.ranks[found[0]]
            makers[maker.output] = maker
        else:
            kept.append(node)
    # A layer that took over a later name stays in its place, which is before all that read that name.
    graph.nodes = kept


def _put_into(graph: Graph, layer: Node, scale: np.ndarray, shift: np.ndarray) -> bool:
    if layer.op not in ("Conv", LINEAR) or layer.inputs[1] not in graph.constants:
        return False
    channel = 1 if layer.op == "Conv" else scale.ndim - 1
    weight = graph.constants[layer.inputs[1]].astype(np.float64)
    outputs = weight.shape[0] if layer.op == "Conv" else weight.shape[1]
    if any(axis != channel for axis in (*_varies(scale), *_varies(shift))):
        return False
    if {scale.size, shift.size} - {1, outputs}:
        return False
    scale, shift = (np.broadcast_to(numbers.ravel(), outputs) for numbers in (scale, shift))
    bias = graph.constants[layer.inputs[2]] if len(layer.inputs) > 2 else np.zeros(outputs)
    weight = weight * (scale.reshape(-1, *(1,) * (weight.ndim - 1)) if layer.op == "Conv" else scale)
    layer.inputs[1:] = [graph.constant(weight), graph.constant(bias * scale + shift)]
    return True


def _merge(graph: Graph, outputs: Sequence[str]) -> None:
    """Write each chain of affine maps as one normalization, or one product and one sum."""
    uses, makers = _uses(graph, outputs), {node.output: node for node in graph.nodes}
    chains: dict[str, tuple[str, np.ndarray, np.ndarray, int]] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        found = _affine(graph, node)
        if found is None or len(set(_varies(found[1]) + _varies(found[2]))) > 1:
            kept.append(node)
            continue
        x, scale, shift = found
        length = 1
        before = chains.get(x)
        if before and uses[x] == 1 and len(set(_varies(scale + shift) + _varies(before[1] + before[2]))) <= 1:
            del chains[x]
            kept.remove(makers[x])
            scale, shift, length = before[1] * scale, before[2] * scale + shift, before[3] + 1
            x = before[0]
        chains[node.output] = x, scale, shift, length
        kept.append(node)
    graph.nodes = []
    for node in kept:
        chain = chains.get(node.output)
        if chain is None or chain[3] == 1:
            graph.nodes.append(node)
        else:
            _write_chain(graph, node.output, *chain[:3])


def _write_chain(graph: Graph, output: str, x: str, scale: np.ndarray, shift: np.ndarray) -> None:
    def numbers(array: np.ndarray) -> str:
        return graph.constant(array.astype(np.float32))

    channels = max(scale.size, shift.size)
    if scale.ndim == 4 and channels > 1 and set(_varies(scale) + _varies(shift)) == {1}:
        weight, bias = (np.broadcast_to(array.ravel(), channels) for array in (scale, shift))
        inputs = [x, numbers(weight), numbers(bias), numbers(np.zeros(channels)), numbers(np.ones(channels))]
        graph.nodes.append(Node("BatchNormalization", inputs, output, {"epsilon": 0.0}))
        return
    if not shift.any():
        graph.nodes.append(Node("Mul", [x, numbers(scale)], output, {}))
        return
    if (scale != 1).any():
        x = graph.add("Mul", x, numbers(scale), rank=scale.ndim)
    graph.nodes.append(Node("Add", [x, numbers(shift)], output, {}))


def _finish(graph: Graph) -> None:
    """Write linear layers as ONNX has them, and their weights as float32 again."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("Conv", LINEAR):
            node.inputs[1:] = [
                graph.constant(graph.constants[name].astype(np.float32, copy=False))
                if name in graph.constants
                else name
                for name in node.inputs[1:]
            ]
        if node.op != LINEAR:
            nodes.append(node)
        elif len(node.inputs) == 2:
            nodes.append(Node("MatMul", node.inputs, node.output, {}))
        elif graph.ranks[node.inputs[0]] == 2:
            nodes.append(Node("Gemm", node.inputs, node.output, {}))
        else:
            product = f"{node.output}_product"
            nodes.append(Node("MatMul", node.inputs[:2], product, {}))
            nodes.append(Node("Add", [product, node.inputs[2]], node.output, {}))
    graph.nodes = nodes
