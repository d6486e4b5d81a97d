"""Skeletons of TFLite files: the file without the bytes of its float weights and without inner names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from pipeline.export.skeleton_container import SMALLEST_FILL_BYTES, Fill, deviation, pack
from pipeline.export.tflite import flatbuffer

_BUFFER_DATA = 4  # offset of the field ``data`` in the vtable of a Buffer (schema.fbs: its first field)


def skeleton(model: bytes) -> bytes:
    """Return the weightless stand-in of a TFLite file: operators, options, shapes and bytes of weights are its own."""
    parsed = flatbuffer.read(model)
    for graph in parsed.subgraphs:
        outside = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in outside:
                tensor.name = b""
    data = flatbuffer.write(parsed)
    fills = sorted(_fills(parsed, data), key=lambda fill: fill.offset)
    return pack(data, fills)


def _fills(parsed: flatbuffer.Model, data: bytes) -> Iterator[Fill]:
    ranges = _ranges(data)
    seen: set[int] = set()
    for graph in parsed.subgraphs:
        readers = _readers(parsed, graph)
        for index, tensor in enumerate(graph.tensors):
            offset, length = ranges[tensor.buffer]
            if tensor.type != schema.TensorType.FLOAT32 or length < SMALLEST_FILL_BYTES or tensor.buffer in seen:
                continue
            seen.add(tensor.buffer)
            mean, std = _distribution(flatbuffer.shape(tensor), readers.get(index, ""))
            yield Fill(offset, length, mean, std)


def _ranges(data: bytes) -> list[tuple[int, int]]:
    """Return where each buffer's bytes lie in the file: offset and length."""
    root = schema.Model.GetRootAs(data, 0)
    found = []
    for number in range(root.BuffersLength()):
        table: Any = root.Buffers(number)._tab
        field = table.Offset(_BUFFER_DATA)
        found.append((table.Vector(field), table.VectorLen(field)) if field else (0, 0))
    return found


def _readers(parsed: flatbuffer.Model, graph: Any) -> dict[int, str]:
    """Return for each tensor the kind of an operator that reads it."""
    return {int(i): flatbuffer.kind(parsed, operator) for operator in graph.operators for i in operator.inputs}


def _distribution(shape: tuple[int, ...], reader: str) -> tuple[float, float]:
    """Return mean and deviation that keep activations in normal range."""
    if reader in ("MUL", "DIV"):  # a scale: around one, never negative
        return 1.0, 0.1
    if len(shape) == 4:  # depthwise filters are (1, height, width, channels), others (out, height, width, in)
        fan_in = math.prod(shape[1:3] if reader == "DEPTHWISE_CONV_2D" else shape[1:])
        return 0.0, deviation(fan_in)
    return (0.0, deviation(shape[1])) if len(shape) == 2 else (0.0, 0.1)
