"""INT8 ONNX as a format: what a run writes, measures and judges once it has decided for this precision."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import fx

from pipeline.export.format import INT8, Skeleton
from pipeline.export.formats.onnx import Onnx
from pipeline.export.onnx.skeleton import weightless
from pipeline.export.quantization.int8_settings import AS_USUAL, Int8Settings
from pipeline.export.quantization.placement import is_weighted, place, weighted_nodes
from pipeline.export.quantization.qdq import write_qdq
from pipeline.export.quantization.quantize import QuantizedFile, calibrate, quantize
from pipeline.export.quantization.ranges import Range
from pipeline.export.quantization.value_graph import ValueGraph

_ZEROS, _ONES = np.zeros(1, np.float32), np.ones(1, np.float32)
TILE = (np.arange(509) * 89 % 253 - 126).astype(np.int8)
"""What a probe's weights repeat: as many values as a prime, so that no channel is like its neighbour."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8Onnx:
    """INT8 files of one network and of all that is cut from it."""

    parent: Onnx
    """Writes their float32 parents."""
    images: NDArray[np.float32] = field(repr=False)
    """Real, normalised images, the same for all candidates, by which ranges are read."""
    settings: Int8Settings = AS_USUAL

    precision = INT8

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's INT8 file; raises ExportError."""
        return self.quantized(network).data

    def quantized(self, network: fx.GraphModule) -> QuantizedFile:
        """Return the network's INT8 file and how it was made; raises ExportError."""
        model = onnx.load_from_string(self.parent.file(network))
        return quantize(
            model, calibrate(model, self.images, self.settings.scheme), keep_float=self._kept(ValueGraph(model)),
            scheme=self.settings.scheme, operators=self.settings.operators,
        )  # fmt: skip

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return what stands for the network's INT8 file where it is only measured; raises ExportError.

        Weights, scales and biases are made up, and only from what the structure is: equal structures give equal probes,
        of eight bits whatever the file has. The time does not depend on them, only on that they keep the rules by which
        a runtime fuses.
        """
        model = onnx.load_from_string(self.parent.unchecked_file(network))
        _make_up_weights(model)
        graph = ValueGraph(model)
        placement = place(
            graph, keep_float=self._kept(graph), clip_by_rounding=not self.settings.scheme.is_symmetric,
            operators=self.settings.operators,
        )  # fmt: skip
        scheme = replace(self.settings.scheme, weight_bits=8)
        made_up = write_qdq(placement, _made_up_ranges(graph, placement.ranged), scheme)
        size = made_up.ByteSize()
        counted = not self.settings.scheme.is_symmetric  # only ONNX Runtime says how many
        return Skeleton(
            weightless(made_up, {}), size, self.settings.structure(network),
            int8_operators=len(placement.nodes) if counted else 0,
        )  # fmt: skip

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return onnxruntime's scores."""
        return self.parent.answers(file, images)

    def _kept(self, graph: ValueGraph) -> Collection[int]:
        return [n for n in weighted_nodes(graph) if graph.nodes[n].input[1] in self.settings.float_layers]


def _made_up_ranges(graph: ValueGraph, names: Collection[str]) -> dict[str, Range]:
    """Return ranges as they are apart from their size: from 0 on behind a clipping activation, else around it."""
    clipped = {node.output[0] for node in graph.nodes if node.op_type in ("Relu", "Clip", "Sigmoid")}
    return {name: Range(0.0, 2.0) if name in clipped else Range(-1.0, 1.0) for name in names}


def _make_up_weights(model: onnx.ModelProto) -> None:
    """Replace what training has found by a pattern; constants that say what an operator does stay.

    A weight in three has the largest size, so that each channel's scale is the same.
    """
    values = TILE.astype(np.float32)
    values[::3] = np.where(np.arange(len(values[::3])) % 2, 127, -127)
    made_up: dict[str, NDArray[np.float32]] = {}
    for node in model.graph.node:
        if is_weighted(node):
            made_up |= dict.fromkeys(node.input[1:2], values / np.float32(127)) | dict.fromkeys(node.input[2:], _ZEROS)
        elif node.op_type == "BatchNormalization":
            made_up |= dict(zip(node.input[1:], (_ONES, _ZEROS, _ZEROS, _ONES), strict=True))
    for tensor in model.graph.initializer:
        if tensor.name in made_up and tensor.data_type == TensorProto.FLOAT:
            shape = tuple(tensor.dims)
            pattern = np.resize(made_up[tensor.name], int(np.prod(shape))).reshape(shape)
            tensor.CopyFrom(numpy_helper.from_array(pattern, tensor.name))
