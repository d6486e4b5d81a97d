"""From the operators of an ONNX file to a torch.fx graph, one after another."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx

from pipeline.errors import ModelError, first_line
from pipeline.models.onnx_import.constant_folding import folded
from pipeline.models.onnx_import.fusion import Chains
from pipeline.models.onnx_import.graph_builder import Constant, GraphBuilder, Made
from pipeline.models.onnx_import.model_file import AGAIN, ModelFile, describe_node
from pipeline.models.onnx_import.operator_call import Call, Node, UnfitError
from pipeline.models.onnx_import.operators import OPERATORS
from pipeline.models.onnx_import.reshaping import flatten_places, shape


class Converter:
    """Converts one file; the graph is computed as it is written, so that all shapes are known numbers."""

    def __init__(self, file: ModelFile) -> None:
        """Begin with the file's constants, and random images, as many as it takes at once."""
        self._file = file
        images = torch.randn(file.batch or 1, *file.shape, generator=torch.Generator().manual_seed(1))
        self._build = GraphBuilder(images)
        graph = file.proto.graph
        self.values: dict[str, Constant | Made] = {t.name: _held(t, file.name) for t in graph.initializer}
        """What each name of the file stands for."""
        self.values[file.input] = self._build.image
        self._outputs = [output.name for output in graph.output]
        self._chains = Chains(graph)
        self._covered: frozenset[str] = frozenset()

    def network(self) -> fx.GraphModule:
        """Return the network.

        Raises:
            ModelError: an operator cannot be converted; names it and its node.
        """
        with torch.no_grad():
            for node in self._file.proto.graph.node:
                if node.output[0] not in self._covered:
                    self._convert(node)
            return self._build.network(self._answer())

    def _convert(self, node: onnx.NodeProto) -> None:
        try:
            self.values |= self._made(node)
        except UnfitError as error:
            raise ModelError(f"{describe_node(self._file.name, node)} is not converted: {error}; {AGAIN}") from error
        except Exception as error:  # torch and onnx raise whatever an operator does on what does not fit
            reason = first_line(error)
            raise ModelError(f"{describe_node(self._file.name, node)} cannot be computed: {reason}; {AGAIN}") from error

    def _made(self, node: onnx.NodeProto) -> dict[str, Constant | Made]:
        """Return what an operator gives, by name."""
        inputs = {name: self.values[name] for name in node.input if name}
        images = [value for value in inputs.values() if isinstance(value, Made)]
        if not images:
            known = {name: value for name, value in inputs.items() if not isinstance(value, Made)}
            return dict(zip(node.output, folded(node, known, self._file.opset), strict=False))
        if node.op_type in ("Shape", "Size"):
            return {node.output[0]: _size_of(node, images[0])}
        if (fused := self._chains.at(node, self.values)) is not None:
            self._covered |= fused.covered
            return self._applied(fused.node)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        return self._applied(Node(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes))

    def _applied(self, node: Node) -> dict[str, Constant | Made]:
        if (rule := OPERATORS.get(node.kind)) is None:
            raise UnfitError("it is not among the operators that are known")
        inputs = tuple(self.values[name] if name else None for name in node.inputs)
        found = rule(Call(node, inputs, self._build, self._file.opset))
        return dict(zip(node.outputs, found if isinstance(found, tuple) else (found,), strict=False))

    def _answer(self) -> Made | tuple[Made, ...]:
        """Return the outputs; scores as maps of one pixel become scores."""
        found = []
        for name in self._outputs:
            value = self.values.get(name)
            if not isinstance(value, Made):
                raise ModelError(f"{self._file.name}: its output {name} does not depend on the image; {AGAIN}")
            found.append(flatten_places(self._build, value))
        return found[0] if len(found) == 1 else tuple(found)


def _held(tensor: onnx.TensorProto, name: str) -> Constant:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # numpy and onnx raise whatever does not fit
        raise ModelError(f"{name}: the weight {tensor.name} is damaged: {first_line(error)}; {AGAIN}") from error


def _size_of(node: onnx.NodeProto, value: Made) -> Constant:
    if node.op_type == "Size":
        return np.array(value.value.numel(), dtype=np.int64)
    attributes = {a.name: a.i for a in node.attribute}
    return shape(value, attributes.get("start", 0), attributes.get("end"))
