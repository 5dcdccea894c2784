"""Groups of operations that ONNX has an operator for: means, ReLU, softmax, layer normalization."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls_jax.export.onnx.graph import Graph, Node


class Patterns:
    """Finds groups from their last operation backwards; what nothing reads any more is dropped by the caller."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.makers = {node.output: node for node in graph.nodes}

    def replace(self) -> None:
        """Replace the last operation of each group by the operator."""
        for rule in (self._mean, self._relu, self._clip, self._leaky_relu, self._softmax, self._layer_norm):
            for node in self.graph.nodes:
                rule(node)

    # ---- what is read

    def _number(self, name: str) -> float | None:
        """Give the number that all elements of a constant are."""
        array = self.graph.constants.get(name)
        if array is None or array.size == 0 or not (array == array.flat[0]).all():
            return None
        return float(array.flat[0])

    def _made(self, name: str, op: str) -> Node | None:
        """Give the node that makes a value, behind axes of size 1, if it is of this kind."""
        node = self.makers.get(name)
        while node and node.op in ("Unsqueeze", "Squeeze"):
            node = self.makers.get(node.inputs[0])
        return node if node and node.op == op else None

    def _with_number(self, node: Node | None, op: str, number: float | None = None) -> tuple[str, float] | None:
        """Give (x, number) of a node that combines x with one number, perhaps a given one."""
        if node is None or node.op != op:
            return None
        for x, other in (node.inputs, node.inputs[::-1]):
            found = self._number(other)
            if found is not None and (number is None or found == number):
                return x, found
        return None

    def _axes(self, node: Node) -> list[int]:
        return self.graph.constants[node.inputs[1]].tolist()

    def _over_last(self, node: Node) -> bool:
        return self._axes(node) == [self.graph.ranks[node.inputs[0]] - 1]

    @staticmethod
    def _become(node: Node, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        node.op, node.inputs, node.attributes = op, list(inputs), attributes

    # ---- the groups

    def _mean(self, node: Node) -> None:
        """ReduceSum and a division by the number of its elements."""
        if node.op not in ("Div", "Mul") or node.inputs[0] in self.graph.constants:
            return
        total = self.makers.get(node.inputs[0])
        number = self._number(node.inputs[1])
        if total is None or total.op != "ReduceSum" or not number:
            return
        if self.graph.counts.get(total.output) == (number if node.op == "Div" else round(1 / number)):
            self._become(node, "ReduceMean", total.inputs, keepdims=0)

    def _relu(self, node: Node) -> None:
        if found := self._with_number(node, "Max", 0):
            self._become(node, "Relu", [found[0]])

    def _clip(self, node: Node) -> None:
        """A ReLU with an upper bound."""
        found = self._with_number(node, "Min")
        relu = self.makers.get(found[0]) if found else None
        if found and relu and relu.op == "Relu":
            bounds = [self.graph.constant(np.float32(bound)) for bound in (0, found[1])]
            self._become(node, "Clip", [relu.inputs[0], *bounds])

    def _leaky_relu(self, node: Node) -> None:
        """A choice by sign between x and its multiple."""
        if node.op != "Where":
            return
        condition, x, scaled = node.inputs
        positive = self._with_number(self._made(condition, "Greater"), "Greater", 0)
        multiple = self._with_number(self._made(scaled, "Mul"), "Mul")
        if positive and multiple and self.makers[condition].inputs[0] == x == multiple[0]:
            self._become(node, "LeakyRelu", [x], alpha=multiple[1])

    def _softmax(self, node: Node) -> None:
        if node.op != "Div":
            return
        exp, total = self._made(node.inputs[0], "Exp"), self._made(node.inputs[1], "ReduceSum")
        if not exp or not total or total.inputs[0] != exp.output:
            return
        difference = self._made(exp.inputs[0], "Sub")
        if not difference:
            return
        largest = self._made(difference.inputs[1], "ReduceMax")
        if not largest:
            bounded = self._with_number(self._made(difference.inputs[1], "Max"), "Max", -np.inf)
            largest = self._made(bounded[0], "ReduceMax") if bounded else None
        axes = self._axes(total)
        if largest and largest.inputs[0] == difference.inputs[0] and self._axes(largest) == axes and len(axes) == 1:
            self._become(node, "Softmax", [difference.inputs[0]], axis=axes[0])

    def _layer_norm(self, node: Node) -> None:
        """(x − mean) · (rsqrt(max(mean(x²) − mean², 0) + ε) · scale) + bias, as flax computes it."""
        if node.op != "Add":
            return
        product = self.makers.get(node.inputs[0])
        bias = self.graph.constants.get(node.inputs[1])
        if product is None or product.op != "Mul" or bias is None:
            return
        centered = self._made(product.inputs[0], "Sub")
        factor = self._made(product.inputs[1], "Mul")
        if not centered or not factor or factor.inputs[1] not in self.graph.constants:
            return
        x = centered.inputs[0]
        mean, scale = self._made(centered.inputs[1], "ReduceMean"), self.graph.constants[factor.inputs[1]]
        epsilon = self._inverse_deviation(factor.inputs[0], x)
        if epsilon is None or not mean or mean.inputs[0] != x or not self._over_last(mean):
            return
        if scale.size == scale.shape[-1] == bias.size:
            weights = [self.graph.constant(array.reshape(-1)) for array in (scale, bias)]
            self._become(node, "LayerNormalization", [x, *weights], axis=-1, epsilon=epsilon)

    def _inverse_deviation(self, name: str, x: str) -> float | None:
        """Give ε, where `name` is rsqrt(variance of x over its last axis + ε)."""
        reciprocal = self._made(name, "Reciprocal")
        root = self._made(reciprocal.inputs[0], "Sqrt") if reciprocal else None
        shifted = self._with_number(self._made(root.inputs[0], "Add"), "Add") if root else None
        if not shifted:
            return None
        difference = self._made(shifted[0], "Sub")
        if not difference:
            bounded = self._made(shifted[0], "Relu")
            difference = self._made(bounded.inputs[0], "Sub") if bounded else None
        if not difference:
            return None
        squares, square = self._made(difference.inputs[0], "ReduceMean"), self._made(difference.inputs[1], "Mul")
        mean = self._made(square.inputs[0], "ReduceMean") if square else None
        squared = self._made(squares.inputs[0], "Mul") if squares else None
        if not squares or not mean or not squared or not square:
            return None
        right = squared.inputs == [x, x] and mean.inputs[0] == x and square.inputs[0] == square.inputs[1]
        return shifted[1] if right and self._over_last(squares) and self._over_last(mean) else None
