"""INT8 TFLite as a format: what a run writes, measures and judges once it has decided for this precision."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import fx

from pipeline.errors import ExportError
from pipeline.export.constants import constants
from pipeline.export.format import INT8, Skeleton
from pipeline.export.formats.tflite import TFLite
from pipeline.export.quantization.int8_format import TILE
from pipeline.export.quantization.int8_settings import AS_USUAL, Int8Settings
from pipeline.export.quantization.litert_quantizer import FloatFile, QuantizedTFLite, quantize
from pipeline.export.quantization.ranges import Range
from pipeline.export.skeleton_container import pack
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.template import LAYERS


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8TFLite:
    """INT8 files of one network and of all that is cut from it."""

    parent: TFLite
    """Writes their float32 parents."""
    images: NDArray[np.float32] = field(repr=False)
    """Real, normalised images, the same for all candidates, by which ranges are read."""
    settings: Int8Settings = AS_USUAL

    name = "tflite"
    precision = INT8

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's INT8 file; raises ExportError."""
        return self.quantized(network).data

    def quantized(self, network: fx.GraphModule) -> QuantizedTFLite:
        """Return the network's INT8 file and how it was made; raises ExportError."""
        file = self._float_file(network)
        return quantize(file, file.ranges(self.images), float_layers=self.settings.float_layers)

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return what stands for the network's INT8 file where it is only measured; raises ExportError.

        Weights, scales and biases are made up, and only from what the structure is: equal structures give equal probes.
        The time does not depend on them.
        """
        file = self._float_file(network)
        _make_up_weights(file.model)
        made_up = quantize(file, _made_up_ranges(file), float_layers=self.settings.float_layers).data
        return Skeleton(_weightless(made_up), len(made_up), self.settings.structure(network))

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return LiteRT's scores."""
        return self.parent.answers(file, images)

    def _float_file(self, network: fx.GraphModule) -> FloatFile:
        """Return the parent's file, with all layers that have to stay float32 and that no cut removed."""
        file = FloatFile(self.parent.file(network))
        if self.settings.float_layers and (
            lost := (self.settings.float_layers & constants(network).keys()) - file.layers.keys()
        ):
            raise ExportError(
                f"{', '.join(sorted(lost))} cannot be told from other layers of the file, and has to stay float32"
            )
        return file


def _make_up_weights(model: flatbuffer.Model) -> None:
    """Replace what training has found: in a layer, each channel's scale is the same, and its sums stay in range."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        kind = flatbuffer.kind(model, operator)
        for position, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]  # of -1, an input that is left out, the last: an output, so no constant
            value = flatbuffer.constant(model, tensor)
            if value is not None and value.dtype == np.float32:
                made_up = _made_up(kind, position, value.shape)
                model.buffers[tensor.buffer] = flatbuffer.new_buffer(np.full(value.shape, made_up, np.float32))


def _made_up(kind: str, position: int, shape: tuple[int, ...]) -> float:
    """Return a constant's one value: a layer's weight adds up to 1 with the others that one output reads."""
    if kind not in LAYERS:
        return 1.0
    read = shape[1:3] if kind == "DEPTHWISE_CONV_2D" else shape[1:]
    return 1.0 / int(np.prod(read)) if position == 1 else 0.0


def _made_up_ranges(file: FloatFile) -> dict[str, Range]:
    """Return a range for each activation, no two alike: values that share a scale may save a runtime an operation."""
    return {name: Range(-1.0, 1.0 + number / 4096) for number, name in file.activations.items()}


def _weightless(data: bytes) -> bytes:
    """Return the stand-in of a file with made-up weights and scales: a short pattern for weights, no inner names."""
    model = flatbuffer.read(data)
    for graph in model.subgraphs:
        outside = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in outside else b""
            if tensor.type == schema.TensorType.INT8 and flatbuffer.is_constant(model, tensor):
                length = len(model.buffers[tensor.buffer].data)
                model.buffers[tensor.buffer] = flatbuffer.new_buffer(np.resize(TILE, length))
    return pack(flatbuffer.write(model), ())
