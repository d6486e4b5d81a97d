"""A TFLite file as objects and back: buffers aligned, operators by name, constants as arrays.

The classes are those that LiteRT generates from TensorFlow Lite's schema and ships with its interpreter.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Model = Any
"""A ``schema.ModelT``: generated code has no types."""
Operator = Any
Tensor = Any

FILE_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
"""Bytes; the schema's ``force_align`` of a buffer's data, which Python's generated code forgets."""

DTYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
}
"""What is read and written as an array; constants of other types stay as they are."""

_NAMES: dict[int, str] = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_NOT_OUTSIDE = 1
"""Largest ``offset`` that is none: 0 is absent, 1 what a writer leaves where it means to put one (schema.fbs)."""
_PLACEHOLDER = 127
"""In ``deprecatedBuiltinCode``: the code is larger and stands in ``builtinCode`` (schema.fbs)."""


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data starts at a multiple of 16 bytes, as runtimes map it."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated code calls it
        if self.data is None or len(self.data) == 0:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        content = np.asarray(self.data, dtype=np.uint8).tobytes()
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head = builder.head - len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def is_tflite(data: bytes) -> bool:
    """Return whether a file says of itself that it is one."""
    return len(data) >= 8 and data[4:8] == FILE_IDENTIFIER


def read(data: bytes) -> Model:
    """Return the file's objects; ValueError where it is no TFLite file."""
    if not is_tflite(data):
        raise ValueError("its bytes 4 to 8 are not 'TFL3'")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
    except Exception as error:  # offsets that lead outside raise whatever numpy and struct raise
        raise ValueError("its tables lead outside the file") from error
    for buffer in model.buffers or []:
        _take_in(buffer, data)
    return model


def _take_in(buffer: Any, file: bytes) -> None:
    """Give a buffer the bytes that lie behind the tables, as a file of more than 2 GB, or any quantizer's, has them.

    A writer that knows nothing of such buffers would leave their bytes out.
    """
    if buffer.offset <= _NOT_OUTSIDE:
        return
    end = buffer.offset + buffer.size
    if end > len(file):
        raise ValueError(f"a buffer of it would end at byte {end}, and it has {len(file)}")
    buffer.data = np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
    buffer.offset = buffer.size = 0


def write(model: Model) -> bytes:
    """Return the objects as a file; equal objects give equal bytes."""
    for buffer in model.buffers:
        buffer.__class__ = _AlignedBuffer
    builder = flatbuffers.Builder(sum(_length(b) for b in model.buffers) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def new_buffer(content: NDArray[Any] | None) -> Any:
    """Return a buffer that holds an array's bytes, or none."""
    buffer = schema.BufferT()
    if content is not None:
        buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
    return buffer


def code(model: Model, operator: Operator) -> int:
    """Return an operator's builtin code."""
    entry = model.operatorCodes[operator.opcodeIndex]
    return max(int(entry.builtinCode), int(entry.deprecatedBuiltinCode))


def kind(model: Model, operator: Operator) -> str:
    """Return an operator's name in the schema, CONV_2D for one."""
    return _NAMES.get(code(model, operator), "unknown")


def opcode(model: Model, name: str) -> int:
    """Return the index of a builtin operator's code, which is added where the file has none."""
    builtin = getattr(schema.BuiltinOperator, name)
    for index, entry in enumerate(model.operatorCodes):
        if max(int(entry.builtinCode), int(entry.deprecatedBuiltinCode)) == builtin:
            return index
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version = builtin, 1
    entry.deprecatedBuiltinCode = min(builtin, _PLACEHOLDER)
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def shape(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's shape; () for a scalar."""
    return () if tensor.shape is None else tuple(int(length) for length in tensor.shape)


def constant(model: Model, tensor: Tensor) -> NDArray[Any] | None:
    """Return a constant's values in its shape; None for an activation, and for a type that is not read here."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type not in DTYPES:
        return None
    return np.asarray(data, np.uint8).view(DTYPES[tensor.type]).reshape(shape(tensor))


def is_constant(model: Model, tensor: Tensor) -> bool:
    """Return whether the tensor's values stand in the file."""
    return _length(model.buffers[tensor.buffer]) > 0


def name_ends(model: Model, image: str, scores: str) -> None:
    """Call a network's one input and one output as other formats do, in place; the converter numbers them."""
    graph = model.subgraphs[0]
    for side, ends, name in (("inputs", graph.inputs, image), ("outputs", graph.outputs, scores)):
        if len(ends) == 1:
            graph.tensors[ends[0]].name = name.encode()
            for entry in (entry for s in model.signatureDefs or [] for entry in getattr(s, side) or []):
                entry.name = name.encode()


def _length(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data)
