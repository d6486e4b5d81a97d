"""Quantization placement: which nodes compute in INT8, and which values carry a quantize-dequantize pair.

A runtime turns ``DequantizeLinear → operator → QuantizeLinear`` into one INT8 operator. So all that a quantized node
reads and gives has such a pair, one for each value however many read it, and between two nodes nothing else may stand:
an activation that only clips is left out, since the rounding to uint8 clips in its place; what moves values without
changing them (a pooling's maximum, a reshape) hands its input's scale on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from pipeline.export.quantization.value_graph import ValueGraph, attribute

_MIXED = frozenset({"Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu"})
"""Operators without weights of their own that ONNX Runtime has in INT8."""
_MOVED = frozenset({"Flatten", "Reshape", "MaxPool", "Squeeze", "Unsqueeze", "Transpose"})
"""Operators whose results are among the values that they read."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What of a graph becomes INT8; nodes by their places."""

    graph: ValueGraph
    nodes: frozenset[int]
    """Nodes that compute in INT8."""
    absorbed: Mapping[int, int]
    """A clipping activation that is left out → the node whose rounding clips in its place."""
    scale_of: Mapping[str, str]
    """Value with a pair → the value whose range decides its scale: itself, or what it only moves."""
    operators: Collection[str] | None = None
    """Kinds of operators that the runtime computes in INT8; None: all that ONNX Runtime knows today."""

    @property
    def ranged(self) -> frozenset[str]:
        """Values whose range has to be known; constants' are."""
        return frozenset(self.scale_of.values())

    def output_of(self, number: int) -> str:
        """Return the value that a quantized node gives, its clipping activation's where that is left out."""
        clips = {maker: clip for clip, maker in self.absorbed.items()}
        return str(self.graph.nodes[clips.get(number, number)].output[0])


def place(
    graph: ValueGraph,
    *,
    keep_float: Iterable[int] = (),
    clip_by_rounding: bool = True,
    operators: Collection[str] | None = None,
) -> Placement:
    """Return what of a graph becomes INT8.

    Args:
        keep_float: weighted nodes, by their places, that stay float32, and with them what adds or joins their results.
        clip_by_rounding: whether clipping activations may be left out; not where zero points are fixed to 0: there
            they stay, between their operator and its pair, where TensorRT fuses them.
        operators: kinds that the board's runtime computes in INT8; pairs around others would cost, and gain nothing.
    """
    kept = frozenset(keep_float)
    nodes = frozenset(
        n for n, node in enumerate(graph.nodes) if n not in kept and _is_quantizable(graph, node, operators)
    )
    nodes = _without_lonely(graph, nodes - _behind_float(graph, kept))
    clips = _absorbed(graph, nodes)
    placement = Placement(graph=graph, nodes=nodes, absorbed=clips, scale_of={}, operators=operators)
    pairs = {name for n in nodes for name in (*activations(graph, graph.nodes[n]), placement.output_of(n))}
    scale_of = {name: name for name in pairs}
    for node in graph.nodes:
        if node.op_type in _MOVED and node.input[0] in scale_of:
            scale_of[node.output[0]] = scale_of[node.input[0]]
    return replace(placement, absorbed=clips if clip_by_rounding else {}, scale_of=scale_of)


def weighted_nodes(graph: ValueGraph, operators: Collection[str] | None = None) -> list[int]:
    """Return the layers with weights that can be quantized, by their places, in the order in which they run.

    Args:
        operators: kinds that the board's runtime computes in INT8.
    """
    return [n for n, node in enumerate(graph.nodes) if is_weighted(node) and _is_quantizable(graph, node, operators)]


def is_weighted(node: NodeProto) -> bool:
    """Return whether an operator is a layer with weights that has an INT8 form."""
    return node.op_type in ("Conv", "Gemm", "MatMul")


def activations(graph: ValueGraph, node: NodeProto) -> list[str]:
    """Return the values that a node reads and that depend on the image."""
    read = node.input[:1] if is_weighted(node) else node.input
    return [name for name in read if name and name not in graph.constants]


def _is_quantizable(graph: ValueGraph, node: NodeProto, operators: Collection[str] | None) -> bool:
    if node.domain not in ("", "ai.onnx") or (operators is not None and node.op_type not in operators):
        return False
    if not is_weighted(node):
        return node.op_type in _MIXED and all(_is_float(graph, name) for name in node.input)
    weight = graph.array(node.input[1])
    if weight is None or weight.dtype != np.float32 or node.input[0] in graph.constants:
        return False
    bias = graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(node.input) > 2 and node.input[2] and (bias is None or bias.ndim != 1):
        return False
    if node.op_type == "MatMul":
        return weight.ndim == 2
    return node.op_type == "Conv" or (
        attribute(node, "alpha", 1) == 1 and attribute(node, "beta", 1) == 1 and not attribute(node, "transA", 0)
    )


def _is_float(graph: ValueGraph, name: str) -> bool:
    constant = graph.array(name)
    return constant is None or constant.dtype == np.float32


def _behind_float(graph: ValueGraph, kept: Iterable[int]) -> frozenset[int]:
    """Return the operators without weights that read what a float layer gives, its clipping activation in between.

    With a rounding behind it alone, such a layer would be quantized all the same by newer versions of ONNX Runtime.
    """
    found: set[int] = set()
    values = [name for number in kept for name in graph.nodes[number].output]
    for name in values:
        for number in graph.readers.get(name, ()):
            node = graph.nodes[number]
            if node.op_type in _MIXED:
                found.add(number)
            elif node.op_type in ("Relu", "Clip"):
                values.extend(node.output)
    return frozenset(found)


def _without_lonely(graph: ValueGraph, nodes: frozenset[int]) -> frozenset[int]:
    """Leave out operators without weights that no quantized layer leads to: rounding their values would gain nothing.

    One beside float layers alone (a scaled image, a sum at the end) would be INT8 between two conversions.
    """
    reached: set[str] = set()
    kept: set[int] = set()
    for number, node in enumerate(graph.nodes):
        is_reached = any(name in reached for name in node.input)
        if number in nodes and (is_weighted(node) or is_reached):
            kept.add(number)
            reached.update(node.output)
        elif is_reached and node.op_type in (*_MOVED, "Relu", "Clip"):
            reached.update(node.output)
    return frozenset(kept)


def _absorbed(graph: ValueGraph, nodes: frozenset[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        maker = graph.makers.get(node.input[0]) if node.input else None
        if maker in nodes and maker is not None and graph.is_alone(node.input[0]) and _clips_from_zero(graph, node):
            found[number] = maker
    return found


def _clips_from_zero(graph: ValueGraph, node: NodeProto) -> bool:
    """Return whether an operator is Relu, ReLU6 or alike: what it gives begins at 0, as an unsigned rounding does."""
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip":
        return False
    if len(node.input) > 1:
        low = graph.array(node.input[1]) if node.input[1] else None
        return low is not None and float(np.asarray(low).reshape(-1)[0]) == 0
    return attribute(node, "min", -np.inf) == 0
