"""Preparation of a user's ONNX file for quantization: one float32 image in, batch norm folded, opset 13 or later."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import TensorProto, version_converter

from pipeline.errors import ModelError, first_line
from pipeline.export.quantization.host_session import open_session
from pipeline.export.quantization.qdq import OLDEST_OPSET
from pipeline.export.quantization.value_graph import ValueGraph

_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})


def prepare(model: onnx.ModelProto, *, shown: str) -> onnx.ModelProto:
    """Return a file that can be quantized and answers as ``model`` does, batch norm folded into layers before it.

    Args:
        shown: how the file is called in messages.

    Raises:
        ModelError: it is quantized already, takes something else than one float32 tensor, or is too old to convert.
    """
    if found := _QUANTIZED.intersection(node.op_type for node in model.graph.node):
        raise ModelError(f"{shown} is quantized already ({', '.join(sorted(found))}); give the float32 file")
    _require_one_image(model, shown)
    return _folded(_converted(model, shown), shown)


def image_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    """Return the shape of one image or signal: channels, height, width; an open length is 0."""
    graph = ValueGraph(model)
    value = next(value for value in model.graph.input if value.name == graph.inputs[0])
    return tuple(int(length.dim_value) for length in value.type.tensor_type.shape.dim)[1:]


def _require_one_image(model: onnx.ModelProto, shown: str) -> None:
    inputs = ValueGraph(model).inputs
    values = [value for value in model.graph.input if value.name in inputs]
    kinds = [TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in values]
    if kinds != ["FLOAT"]:
        found = ", ".join(f"{value.name} ({kind.lower()})" for value, kind in zip(values, kinds, strict=True)) or "none"
        raise ModelError(f"{shown} takes {found}; a network with one float32 input can be quantized")
    if len(image_shape(model)) not in (2, 3):
        raise ModelError(
            f"{shown} takes a tensor of {len(image_shape(model)) + 1} dimensions; expected are batches of images "
            "(number, channels, height, width) or of signals (number, channels, samples)"
        )


def _converted(model: onnx.ModelProto, shown: str) -> onnx.ModelProto:
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the converter's errors share no base
        raise ModelError(
            f"{shown} is of opset {opset}, and cannot be brought to {OLDEST_OPSET}, the oldest that can be quantized "
            f"by channel: {first_line(error)}; export it anew"
        ) from error


def _folded(model: onnx.ModelProto, shown: str) -> onnx.ModelProto:
    """Return the file after ONNX Runtime's basic optimisations, which keep to ONNX's own operators."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "folded.onnx"
        try:
            open_session(model.SerializeToString(), optimised=written, basic=True)
        except Exception as error:  # onnxruntime's errors share no base
            raise ModelError(f"{shown} cannot be run on this machine: {first_line(error)}") from error
        folded = onnx.load(written)
    used = {node.domain or "ai.onnx" for node in folded.graph.node} | {"ai.onnx"}
    kept = [one for one in folded.opset_import if (one.domain or "ai.onnx") in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    folded.ir_version = model.ir_version
    return folded
