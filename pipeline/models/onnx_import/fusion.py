"""Chains of operators that are one layer: a product and its bias, a layer norm in pieces (before operator set 17)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from pipeline.models.onnx_import.graph_builder import Constant, Made
from pipeline.models.onnx_import.operator_call import Node

Values = Mapping[str, Constant | Made]


@dataclass(frozen=True, slots=True)
class Fused:
    """A layer, and the operators that it stands for."""

    node: Node
    covered: frozenset[str]
    """Names of values that nothing else reads, and of the result."""


class Chains:
    """Finds chains in a graph, at the operator that they are known by."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._kept = {output.name for output in graph.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def at(self, node: onnx.NodeProto, values: Values) -> Fused | None:
        """Return the layer that an operator is the first of, or the middle; None: it stands for itself.

        Args:
            node: of the graph.
            values: what is known when it is converted.
        """
        if node.op_type == "MatMul":
            return self._linear(node, values)
        return self._layer_norm(node, values) if node.op_type == "Div" else None

    def _linear(self, product: onnx.NodeProto, values: Values) -> Fused | None:
        weight = values[product.input[1]]
        if isinstance(weight, Made) or weight.ndim != 2:
            return None
        if (found := self._with_constant(product, "Add", values, weight.shape[1:])) is None:
            return None
        behind, bias = found
        names = (product.input[0], product.input[1], bias)
        return _fused("MatMul", product.name, names, {}, (product, behind))

    def _layer_norm(self, division: onnx.NodeProto, values: Values) -> Fused | None:
        """Match x - mean over the root of the mean square of that and a small number; then a scale, then an offset."""
        matched = self._normalisation(division, values)
        if matched is None:
            return None
        source, axes, eps = matched
        value = values[source]
        if not isinstance(value, Made):
            return None
        rank = len(value.shape)
        first = min(axis % rank for axis in axes)
        if sorted(axis % rank for axis in axes) != list(range(first, rank)):
            return None
        nodes, names, shape = [division], [source], value.shape[first:]
        for kind in ("Mul", "Add"):
            if (found := self._with_constant(nodes[-1], kind, values, shape)) is None:
                break
            nodes.append(found[0])
            names.append(found[1])
        return _fused("LayerNormalization", division.name, names, {"axis": first, "epsilon": eps}, nodes)

    def _normalisation(self, division: onnx.NodeProto, values: Values) -> tuple[str, list[int], float] | None:
        """Return what is normalised, along which dimensions, and the number that is added to the variance."""
        difference, root = (self._makers.get(name) for name in division.input)
        added = self._behind(root, "Sqrt")
        mean, power = self._behind(difference, "Sub", 1), None
        if added is None or added.op_type != "Add" or difference is None or mean is None:
            return None
        for place in range(2):
            variance, eps = self._makers.get(added.input[place]), values.get(added.input[1 - place])
            if isinstance(eps, np.ndarray) and eps.size == 1:
                power = self._behind(variance, "ReduceMean")
                break
        else:
            return None
        axes, others = (_axes(reduced, values) for reduced in (mean, variance))
        if mean.op_type != "ReduceMean" or mean.input[0] != difference.input[0] or not axes or axes != others:
            return None
        return (difference.input[0], axes, float(eps.item())) if _squares(power, division.input[0], values) else None

    def _behind(self, node: onnx.NodeProto | None, kind: str, place: int = 0) -> onnx.NodeProto | None:
        """Return who makes an operator's input, where the operator is of that kind."""
        return self._makers.get(node.input[place]) if node is not None and node.op_type == kind else None

    def _with_constant(
        self, node: onnx.NodeProto, kind: str, values: Values, shape: Sequence[int]
    ) -> tuple[onnx.NodeProto, str] | None:
        """Return the only reader of a value, if it is of that kind, and its constant of that shape."""
        made, readers = node.output[0], self._readers[node.output[0]]
        if made in self._kept or len(readers) != 1 or readers[0].op_type != kind or len(readers[0].input) != 2:
            return None
        name = next((name for name in readers[0].input if name != made), made)
        value = values.get(name)
        fits = isinstance(value, np.ndarray) and value.shape[-len(shape) :] == tuple(shape) and (
            value.size == int(np.prod(shape, dtype=np.int64))
        )  # fmt: skip
        return (readers[0], name) if fits else None


def _fused(
    kind: str, name: str, inputs: Sequence[str], attributes: dict[str, float], nodes: Sequence[onnx.NodeProto]
) -> Fused:
    own = Node(kind, name, tuple(inputs), (nodes[-1].output[0],), attributes)
    return Fused(own, frozenset(node.output[0] for node in nodes))


def _axes(node: onnx.NodeProto | None, values: Values) -> list[int]:
    """Return the dimensions that a reduction keeps at size one; empty: it does not, or they are not known."""
    if node is None:
        return []
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = values.get(node.input[1]) if len(node.input) > 1 else attributes.get("axes")
    if not attributes.get("keepdims", 1) or given is None or isinstance(given, Made):
        return []
    return [int(axis) for axis in given]


def _squares(node: onnx.NodeProto | None, name: str, values: Values) -> bool:
    """Return whether an operator squares a value."""
    if node is None or node.input[0] != name:
        return False
    if node.op_type == "Mul":
        return bool(node.input[1] == name)
    exponent = values.get(node.input[1]) if node.op_type == "Pow" else None
    return isinstance(exponent, np.ndarray) and exponent.size == 1 and float(exponent.item()) == 2
