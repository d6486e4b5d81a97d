"""Constants computed while a file is read: shape arithmetic, transposed weights, what exporters write for numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from pipeline.models.onnx_import.graph_builder import Constant
from pipeline.models.onnx_import.operator_call import UnfitError

_MOST = 2**28
"""Elements of a constant that a file may ask for: the largest layers of torchvision's networks have 2^27."""
_GROWING = frozenset({"ConstantOfShape", "Expand", "Range", "Tile"})


def folded(node: onnx.NodeProto, inputs: Mapping[str, Constant], opset: int) -> tuple[Constant, ...]:
    """Return what an operator gives for constants, by ONNX's own reference.

    Raises:
        UnfitError: it would be too large.
    """
    if node.op_type == "Constant":
        return (_constant(node),)
    if node.op_type == "Identity":
        return tuple(inputs.values())
    if node.op_type in _GROWING and _size(node, inputs) > _MOST:
        raise UnfitError(f"it makes a constant of more than {_MOST:,} numbers")
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.GraphProto(node=[node], name=node.op_type, output=outputs)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in inputs)
    proto = onnx.ModelProto(graph=graph, opset_import=[onnx.OperatorSetIdProto(version=opset)])
    return tuple(np.asarray(value) for value in ReferenceEvaluator(proto).run(None, dict(inputs)))


def _constant(node: onnx.NodeProto) -> Constant:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnfitError(f"it is given as {attribute.name}")
    kind = np.float32 if "float" in attribute.name else np.int64
    return np.array(onnx.helper.get_attribute_value(attribute), dtype=kind)


def _size(node: onnx.NodeProto, inputs: Mapping[str, Constant]) -> float:
    values = [inputs[name] for name in node.input if name]
    if node.op_type == "Range":
        start, limit, step = (float(value.item()) for value in values)
        return (limit - start) / step if step else math.inf
    asked = math.prod(abs(float(size)) for size in values[-1].reshape(-1))
    return asked * (values[0].size if node.op_type == "Tile" else 1)
