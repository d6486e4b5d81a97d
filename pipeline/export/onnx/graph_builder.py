"""ONNX graph builder: operators and constants of a file, each constant once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pipeline.export.onnx.layers import Operator, Weight
from pipeline.export.onnx.operator_export import Fragment
from pipeline.export.skeleton_container import SMALLEST_FILL_BYTES

_INT64 = TensorProto.INT64


@dataclass(slots=True)
class Sheet:
    """Operators and constants in the order in which they were written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    weights: dict[int, Weight] = field(default_factory=dict)
    """Index of a tensor that was written without data → what belongs there."""
    _named: set[str] = field(default_factory=set)
    _shared: dict[bytes, str] = field(default_factory=dict)
    """A constant without its name → the name under which it is written."""

    def add_operator(self, name: str, operator: Operator, inputs: Sequence[str]) -> None:
        """Write a layer, whose output is called ``name``."""
        weights = [self.add_weight(weight) for weight in operator.weights]
        attributes: dict[str, Any] = operator.attributes
        self.nodes.append(helper.make_node(operator.kind, [*inputs, *weights], [name], name, **attributes))

    def add_fragment(self, name: str, fragment: Fragment, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Write an operation's operators."""
        names = dict(zip((*fragment.inputs, *fragment.outputs), (*inputs, *outputs), strict=True))
        names[""] = ""  # an optional input that is left out
        names |= {tensor.name: self.add_constant(tensor) for tensor in fragment.constants}
        for number, node in enumerate(fragment.nodes):
            written = onnx.NodeProto()
            written.CopyFrom(node)
            written.name = f"{name}/{number}"
            for values in (written.input, written.output):
                values[:] = [names.setdefault(value, f"{name}/{value}") for value in values]
            self.nodes.append(written)

    def add_tensor(self, name: str, tensor: Tensor) -> str:
        """Write a tensor with values; return its name."""
        if tensor.dtype == torch.float32:
            return self.add_weight(Weight(name, tuple(tensor.shape), tensor.detach))
        return self.add_constant(numpy_helper.from_array(tensor.detach().numpy()))

    def add_weight(self, weight: Weight) -> str:
        """Write a weight unless it is written already; leave its values out where they are many; return its name."""
        if weight.name in self._named:
            return weight.name
        self._named.add(weight.name)
        tensor = TensorProto(name=weight.name, dims=weight.shape, data_type=TensorProto.FLOAT)
        if weight.nbytes < SMALLEST_FILL_BYTES:
            tensor.raw_data = weight.value().contiguous().numpy().tobytes()
        else:
            self.weights[len(self.tensors)] = weight
        self.tensors.append(tensor)
        return weight.name

    def add_constant(self, tensor: TensorProto) -> str:
        """Write a constant unless one of the same type, shape and values is written already; return its name."""
        written = TensorProto()
        written.CopyFrom(tensor)
        written.ClearField("name")
        content = written.SerializeToString(deterministic=True)
        if content not in self._shared:
            self._shared[content] = written.name = f"constant_{len(self._shared)}"
            if tensor.data_type == TensorProto.FLOAT:
                values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
                return self.add_weight(Weight(written.name, tuple(tensor.dims), lambda: values))
            self.tensors.append(written)
        return self._shared[content]

    def drop_unread(self, answers: Collection[str]) -> set[str]:
        """Leave out operators whose outputs nothing reads, as the positions of a maximum; return the outputs left."""
        read, kept = set(answers), []
        for node in reversed(self.nodes):
            if not read.isdisjoint(node.output):
                kept.append(node)
                read.update(node.input)
        self.nodes = kept[::-1]
        return {output for node in self.nodes for output in node.output}

    def join_reshapes(self, answers: Collection[str]) -> None:
        """Let equal reshapes be one, and a reshape of a reshape that nothing else reads, as onnxruntime does."""
        reads = Counter(name for node in self.nodes for name in node.input)
        shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.tensors if tensor.data_type == _INT64}
        made: dict[str, onnx.NodeProto] = {}
        same: dict[tuple[str, ...], str] = {}
        instead: dict[str, str] = {}
        for node in self.nodes:
            node.input[:] = [instead.get(name, name) for name in node.input]
            if node.op_type != "Reshape":
                continue
            first, wanted = made.get(node.input[0]), shapes.get(node.input[1])
            alone = first is not None and reads[node.input[0]] == 1 and node.input[0] not in answers
            if first is not None and alone and wanted is not None and (wanted != 0).all():  # 0 copies a size
                node.input[0] = first.input[0]
            made[node.output[0]] = node
            equal = same.setdefault(tuple(node.input), node.output[0])
            if equal != node.output[0] and node.output[0] not in answers:
                instead[node.output[0]] = equal
                reads[equal] += reads[node.output[0]]

    def rename(self, old: str, new: str) -> None:
        """Give a value that operators compute another name."""
        for node in self.nodes:
            for values in (node.input, node.output):
                if old in values:
                    values[:] = [new if value == old else value for value in values]
