"""ONNX file: read, and refused where it is not one float32 network of images of a known size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, inliner

from pipeline.errors import ModelError, first_line
from pipeline.export.onnx.exporter import read
from pipeline.regular_file import MODEL_BYTES, home_expanded, read_bytes

OLDEST = 7
"""Operator set in which operators began to broadcast as torch's do."""
MOST_VALUES, MOST_IMAGES = 2**24, 256
"""Of an image, and of a batch that is fixed: it is computed to see what the network gives."""
AGAIN = "export it again, or give the PyTorch network: --model file.py:FACTORY --weights FILE"
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_QUANTIZED = frozenset(
    """
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger
    """.split()  # noqa: SIM905 - a table of words
)
_FLOATS = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}
_NORMALISING = ("Softmax", "LogSoftmax")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A network as its file has it, without a last Softmax."""

    name: str
    """Of the file, as the user gave it."""
    proto: onnx.ModelProto
    input: str
    shape: tuple[int, ...]
    """Of an image: channels, height, width; of a signal channels, samples."""
    batch: int | None
    """Images that it takes at once; None: any number."""
    notes: tuple[str, ...]
    """What was left out of it, for the user to know."""

    @property
    def opset(self) -> int:
        """The operator set's version."""
        return _opset(self.proto)


def read_file(path: Path) -> ModelFile:
    """Read an ONNX file.

    Raises:
        ModelError: there is none, it is damaged, or holds what cannot be converted; names the operator and its node.
    """
    shown = str(path)
    proto = read(_content(path), None, name=shown)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    _require_operators(proto, shown)
    _require_float32(proto, shown)
    name, shape, batch = _input(proto, shown)
    notes = tuple(_without_softmax(proto))
    return ModelFile(name=shown, proto=proto, input=name, shape=shape, batch=batch, notes=notes)


def describe_node(name: str, node: onnx.NodeProto) -> str:
    """Return a node in words: file, operator, and the node's name or what it makes."""
    return f"{name}: {node.op_type} ({node.name or node.output[0]})"


def _content(path: Path) -> bytes:
    try:
        return read_bytes(home_expanded(path), MODEL_BYTES)
    except FileNotFoundError as error:
        raise ModelError(f"no model file {path}; give the path of an ONNX file") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}; give the path of an ONNX file") from error


def _opset(proto: onnx.ModelProto) -> int:
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _require_operators(proto: onnx.ModelProto, name: str) -> None:
    for node in proto.graph.node:
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{describe_node(name, node)} is of a quantized network, which cannot be pruned and trained; give the "
                "float file that it was made of"
            )
        if node.op_type in _CONTROL_FLOW:
            raise ModelError(
                f"{describe_node(name, node)} is control flow, which is not followed; {AGAIN} without branches"
            )
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(f"{describe_node(name, node)} is no operator of ONNX but of {node.domain}; {AGAIN}")
    if (version := _opset(proto)) < OLDEST:
        raise ModelError(f"{name} is of operator set {version}; export it again with one of {OLDEST} or above, as 17")


def _require_float32(proto: onnx.ModelProto, name: str) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type in _FLOATS and len(tensor.dims) > 1:
            raise ModelError(
                f"{name}: the weight {tensor.name} is {_FLOATS[tensor.data_type]}, expected is float32; export "
                "model.float() again"
            )
        if tensor.data_type in (TensorProto.INT8, TensorProto.UINT8):
            raise ModelError(
                f"{name}: the weight {tensor.name} is of 8-bit integers, as quantized networks have; give the float "
                "file that it was made of"
            )


def _input(proto: onnx.ModelProto, name: str) -> tuple[str, tuple[int, ...], int | None]:
    """Return the input's name, the shape of an image and how many are taken at once; None: any number."""
    held = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in held]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"{name} has {len(inputs)} inputs ({names}), expected is one, of images; {AGAIN} with one")
    (value,) = inputs
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(kind).lower()
        raise ModelError(f"{name}: the input {value.name} is {found}, expected is float32; export model.float() again")
    dims = value.type.tensor_type.shape.dim
    if len(dims) not in (3, 4):
        raise ModelError(
            f"{name}: the input {value.name} has {len(dims)} dimensions; expected are images, (N, C, H, W), or "
            f"signals, (N, C, samples): {AGAIN}"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    for place, size in enumerate(sizes[1:], 1):
        if size < 1:
            raise ModelError(_open_size(name, value.name, place, dims[place].dim_param))
    if math.prod(sizes[1:]) > MOST_VALUES or sizes[0] > MOST_IMAGES:
        raise ModelError(
            f"{name}: the input {value.name} is of {' x '.join(map(str, sizes))}, more than {MOST_IMAGES} images of "
            f"{MOST_VALUES:,} values; {AGAIN} for one image"
        )
    return value.name, tuple(sizes[1:]), sizes[0] if sizes[0] > 0 else None


def _open_size(name: str, value: str, place: int, called: str) -> str:
    which = f"dimension {place}" + (f" ({called})" if called else "")
    return (
        f"{name}: {which} of the input {value} is open; export it again with only the batch open "
        f"(dynamic_axes={{{value!r}: {{0: 'batch'}}}}), or fix the size: python -m "
        f"onnxruntime.tools.make_dynamic_shape_fixed --input_name {value} --input_shape 1,3,224,224 {name} fixed.onnx"
    )


def _without_softmax(proto: onnx.ModelProto) -> Iterator[str]:
    """Let outputs that are a Softmax over classes be its input, in place; yield what was taken off."""
    graph = proto.graph
    for output in graph.output:
        node = next((node for node in graph.node if output.name in node.output), None)
        if node is None or node.op_type not in _NORMALISING or not _over_classes(node, output, _opset(proto)):
            continue
        output.name = node.input[0]
        if not any(made in read.input for read in graph.node for made in node.output):
            graph.node.remove(node)
        yield f"the last {node.op_type} is taken off: training and pruning want scores; put it back behind the result"


def _over_classes(node: onnx.NodeProto, output: onnx.ValueInfoProto, opset: int) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1 if opset < 13 else -1)
    return axis == 1 or (axis == -1 and len(output.type.tensor_type.shape.dim) in (0, 2))
