"""A float32 file that can be quantized, ONNX or TFLite: what it takes, its ranges, its INT8 file in each form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pipeline.errors import ExportError, ModelError, first_line
from pipeline.export.onnx.exporter import read
from pipeline.export.quantization import litert_quantizer
from pipeline.export.quantization.placement import weighted_nodes
from pipeline.export.quantization.preparation import image_shape, prepare
from pipeline.export.quantization.qdq import U8S8, Scheme
from pipeline.export.quantization.quantize import calibrate, quantize
from pipeline.export.quantization.ranges import Range
from pipeline.export.quantization.value_graph import ValueGraph
from pipeline.export.tflite import flatbuffer
from pipeline.records import OnnxSupport


class Quantized(Protocol):
    """An INT8 file, and how it was made."""

    @property
    def data(self) -> bytes:
        """The file."""

    @property
    def scheme(self) -> Scheme:
        """How activations and weights are rounded."""

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Of its values, by name."""

    @property
    def operators(self) -> int:
        """That this machine's runtime computes in INT8."""

    @property
    def planned(self) -> int:
        """Operators that were to be INT8."""

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers with weights that stay float32, by their weights' names."""


class Quantizable(Protocol):
    """A float32 classifier."""

    format: str
    """Of the file, as its name ends."""
    parent: bytes
    """The file that is measured and judged beside INT8."""
    shape: tuple[int, ...]
    """Of one image: channels, height, width; an open length is 0."""
    layers: Sequence[str]
    """With weights, by their names, in the order in which they run."""

    def ranges(self, images: NDArray[np.float32]) -> dict[str, Range]:
        """Return the ranges of its values over ``images``; raises ExportError."""

    def quantized(self, ranges: dict[str, Range], keep_float: Collection[str], scheme: Scheme) -> Quantized:
        """Return its INT8 file; raises ExportError."""


class QuantizableOnnx:
    """An ONNX file, batch norm folded."""

    format = "onnx"

    def __init__(self, model: bytes, support: OnnxSupport, operators: Collection[str] | None, shown: str) -> None:
        """Prepare the file.

        Args:
            model: its batch is one image, or open.
            support: the newest ONNX that the device loads.
            operators: kinds that its runtime computes in INT8; None: nobody says.
            shown: how the file is called in messages.

        Raises:
            ModelError: it cannot be quantized.
        """
        self._model = prepare(read(model, None, name=shown), shown=shown)
        self._model.ir_version = min(self._model.ir_version, support.ir)
        self._operators = operators
        self.parent = self._model.SerializeToString(deterministic=True)
        read(self.parent, support, name=shown)
        self.shape = image_shape(self._model)
        self._graph = ValueGraph(onnx.load_from_string(self.parent))
        self.layers: Sequence[str] = [self._graph.nodes[n].input[1] for n in weighted_nodes(self._graph, operators)]

    def ranges(self, images: NDArray[np.float32]) -> dict[str, Range]:
        """Return the ranges of all values that any placement in either scheme may need."""
        return calibrate(self._model, images, U8S8)

    def quantized(self, ranges: dict[str, Range], keep_float: Collection[str], scheme: Scheme) -> Quantized:
        """Return the QDQ file."""
        weighted = weighted_nodes(self._graph, self._operators)
        kept = [n for n in weighted if self._graph.nodes[n].input[1] in keep_float]
        return quantize(self._model, ranges, keep_float=kept, scheme=scheme, operators=self._operators)


class QuantizableTFLite:
    """A TFLite file that takes one float32 image, channels first, as this program writes them."""

    format = "tflite"

    def __init__(self, data: bytes, shown: str) -> None:
        """Read the file.

        Raises:
            ModelError: it is damaged, quantized already, or takes or gives something else.
        """
        try:
            self._file = litert_quantizer.FloatFile(data)
        except ValueError as error:
            raise ModelError(f"{shown} is not a valid TFLite file: {first_line(error)}") from error
        graph = self._file.model.subgraphs[0]
        if any(tensor.type in (schema.TensorType.INT8, schema.TensorType.UINT8) for tensor in graph.tensors):
            raise ModelError(f"{shown} is quantized already; give the float32 file")
        taken = [graph.tensors[index] for index in graph.inputs]
        if len(taken) != 1 or taken[0].type != schema.TensorType.FLOAT32 or len(graph.outputs) != 1:
            raise ModelError(
                f"{shown} takes {len(taken)} tensors and gives {len(graph.outputs)}; a network with one float32 input "
                "and one output can be quantized"
            )
        self.parent = data
        self.shape = flatbuffer.shape(taken[0])[1:]
        self.layers: Sequence[str] = list(self._file.layers)

    def ranges(self, images: NDArray[np.float32]) -> dict[str, Range]:
        """Return the ranges of all activations."""
        try:
            return self._file.ranges(images)
        except (ValueError, RuntimeError) as error:  # LiteRT's
            raise ExportError(f"LiteRT does not run it: {first_line(error)}") from error

    def quantized(self, ranges: dict[str, Range], keep_float: Collection[str], scheme: Scheme) -> Quantized:
        """Return LiteRT's quantizer's file, which has one form."""
        del scheme
        return litert_quantizer.quantize(self._file, ranges, float_layers=keep_float)
