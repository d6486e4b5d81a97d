"""A network's ONNX file, put together along its traced graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper
from torch import fx

from pipeline import structures
from pipeline.errors import first_line
from pipeline.export.format import FastPathUnsupportedError
from pipeline.export.onnx.graph_writer import composed
from pipeline.export.onnx.layers import Weight
from pipeline.export.onnx.operator_export import Fragments
from pipeline.export.onnx.serialized import Pieces, size, with_gaps
from pipeline.export.onnx.skeleton import weightless
from pipeline.export.signature import signature_of
from pipeline.records import OnnxSupport
from pipeline.structures import Inputs

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """A file whose larger weights are not written yet."""

    model: onnx.ModelProto
    weights: Mapping[int, Weight]
    """Index of an initializer without data → what belongs there."""
    fragments: frozenset[str]
    """Names of those that it is made of."""

    def file(self) -> bytes:
        """Return the whole file."""
        values = (self.weights[index].value().contiguous().numpy() for index in sorted(self.weights))
        return b"".join(next(values).data if isinstance(piece, int) else piece for piece in self._pieces())

    def skeleton(self) -> bytes:
        """Return the weightless stand-in of the file; no weight that is left out is ever computed."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return weightless(model, self._gaps())

    def size_bytes(self) -> int:
        """Return the length of the whole file."""
        return size(self._pieces())

    def _pieces(self) -> Pieces:
        return with_gaps(self.model, self._gaps())

    def _gaps(self) -> dict[int, int]:
        return {index: weight.nbytes for index, weight in self.weights.items()}


def compose(network: fx.GraphModule, example: Inputs, fragments: Fragments, support: OnnxSupport) -> Composition:
    """Return a traced network as a file for batches of one image, batch norm folded.

    Args:
        example: a batch, of which the shapes count.
        fragments: is added to.

    Raises:
        FastPathUnsupportedError: an operation cannot be written by itself, or a shape in the file is not the network's.
    """
    sheet, shapes, names = composed(network, example, fragments)
    signature = signature_of(network)
    inputs = [
        _declared(name, (1, *part.shape[1:]))
        for name, part in zip(signature.inputs, structures.arguments(example), strict=True)
    ]
    outputs = [_declared(name, shapes[name]) for name in signature.outputs]
    graph = helper.make_graph(sheet.nodes, "network", inputs, outputs, sheet.tensors)
    imports = [helper.make_opsetid("", fragments.opset)]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=min(helper.find_min_ir_version_for(imports), support.ir)
    )
    _require_shapes(model, shapes)
    return Composition(model, sheet.weights, names)


def _declared(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _require_shapes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Raise FastPathUnsupportedError unless each value has, by ONNX's rules, the shape that torch gives it."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except Exception as error:  # onnx's InferenceError, or its checker's
        raise FastPathUnsupportedError(f"its shapes do not fit together: {first_line(error)}") from error
    found = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    for name, shape in shapes.items():
        if found.get(name) != shape:
            raise FastPathUnsupportedError(
                f"{name} is of shape {found.get(name, 'unknown')} in the file, {shape} in the network"
            )
