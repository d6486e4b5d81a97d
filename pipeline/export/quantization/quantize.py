"""Quantize an ONNX file: place, calibrate, write, and see that the runtime computes it in INT8."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.errors import ExportError
from pipeline.export.quantization.fused_operators import require_fused
from pipeline.export.quantization.placement import Placement, is_weighted, place, weighted_nodes
from pipeline.export.quantization.qdq import U8S8, Scheme, write_qdq
from pipeline.export.quantization.ranges import Range, value_ranges
from pipeline.export.quantization.value_graph import ValueGraph

CALIBRATION_IMAGES = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedFile:
    """An INT8 file, and how it was made."""

    data: bytes
    scheme: Scheme
    placement: Placement
    ranges: dict[str, Range]
    operators: int
    """That ONNX Runtime computes in INT8 on this machine."""

    @property
    def planned(self) -> int:
        """Operators that were to be INT8."""
        return len(self.placement.nodes)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers with weights, by their weights' names, which a cut keeps, in order."""
        graph = self.placement.graph
        return tuple(graph.nodes[n].input[1] for n in weighted_nodes(graph, self.placement.operators))

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Of these, the ones that stay float32."""
        graph, placement = self.placement.graph, self.placement
        layers = weighted_nodes(graph, placement.operators)
        return tuple(graph.nodes[n].input[1] for n in layers if n not in placement.nodes)


def calibrate(model: onnx.ModelProto, images: NDArray[np.float32], scheme: Scheme | None = None) -> dict[str, Range]:
    """Return the ranges of all values that any placement of this file may need.

    Args:
        model: the float32 file.
        images: (N, C, H, W), which run one at a time.
        scheme: how activations will be rounded, which decides which values are needed; None: any way. Half of the time
            goes into handing values out, and those before a clipping activation are seldom needed.

    Raises:
        ExportError: nothing in it can be quantized, or a value is not finite.
    """
    graph = ValueGraph(model)
    placement = place(graph)
    if not placement.nodes:
        raise ExportError("the file has no convolution or linear layer with constant float32 weights to quantize")
    names = set(placement.scale_of)
    if scheme is None or scheme.is_symmetric:
        names |= place(graph, clip_by_rounding=False).scale_of.keys()
    return value_ranges(model, names, images, input_name=graph.inputs[0])


def quantize(
    model: onnx.ModelProto,
    ranges: dict[str, Range],
    *,
    keep_float: Iterable[int] = (),
    scheme: Scheme = U8S8,
    operators: Collection[str] | None = None,
) -> QuantizedFile:
    """Return the INT8 file of a float32 one of opset 13 or later, batch norm folded.

    Args:
        ranges: see ``calibrate``.
        keep_float: layers, by their nodes' places, that stay float32; single ones in the middle some runtimes quantize
            all the same, so name runs of two or more, the first or the last.
        scheme: how activations and weights are rounded.
        operators: kinds that the board's runtime computes in INT8; None: all that ONNX Runtime knows today.

    Raises:
        ExportError: nothing in the file is such an operator, or ONNX Runtime would compute less of it in INT8 than was
            planned, or a layer that was to stay float32.
    """
    placement = place(
        ValueGraph(model), keep_float=keep_float, clip_by_rounding=not scheme.is_symmetric, operators=operators
    )
    if not placement.nodes:
        raise ExportError("the file has no operator that the runtime computes in INT8")
    data = write_qdq(placement, ranges, scheme).SerializeToString(deterministic=True)
    layers = sum(is_weighted(placement.graph.nodes[n]) for n in placement.nodes)
    fused = require_fused(data, len(placement.nodes), layers) if scheme.name == U8S8.name else 0
    return QuantizedFile(data=data, scheme=scheme, placement=placement, ranges=ranges, operators=fused)


def float_ends(model: onnx.ModelProto) -> tuple[int, ...]:
    """Return the first and the last layer with weights, by their nodes' places."""
    found = weighted_nodes(ValueGraph(model))
    return (found[0], found[-1]) if found else ()
