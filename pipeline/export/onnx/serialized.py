"""An ONNX file's bytes with room for its weights, which are so copied once, or, in a skeleton, never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import onnx

_GRAPH_FIELD, _INITIALIZER_FIELD, _RAW_DATA_FIELD = 7, 5, 9
"""Numbers in onnx.proto: of a model's graph, its initializers and their data; the wire format:
https://protobuf.dev/programming-guides/encoding/"""

Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto, onnx.TensorProto)

Pieces = list[bytes | int]
"""Bytes, and the lengths of the gaps between them."""


def with_gaps(model: onnx.ModelProto, gaps: Mapping[int, int]) -> Pieces:
    """Return the model's bytes with a gap in place of the raw data of some initializers.

    Args:
        gaps: index of an initializer, which has no data → bytes of the data that belong there.

    >>> tensor = onnx.TensorProto(name="w", dims=[300], data_type=1)
    >>> model = onnx.ModelProto(ir_version=7, graph=onnx.GraphProto(initializer=[tensor]))
    >>> start, gap, end = with_gaps(model, {0: 1200})
    >>> onnx.load_from_string(start + bytes(gap) + end).graph.initializer[0].raw_data == bytes(1200)
    True
    """
    head, end = _without(model, "graph"), _without(model.graph, "node", "name", "initializer")
    start = onnx.GraphProto(node=model.graph.node, name=model.graph.name)
    inside: Pieces = [_bytes(start)]
    for index, tensor in enumerate(model.graph.initializer):
        inside += _delimited(_INITIALIZER_FIELD, _tensor(tensor, gaps.get(index)))
    inside.append(_bytes(end))
    return list(_joined([_bytes(head), *_delimited(_GRAPH_FIELD, inside)]))


def size(pieces: Pieces) -> int:
    """Return the whole's bytes."""
    return sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)


def _tensor(tensor: onnx.TensorProto, gap: int | None) -> Pieces:
    return [_bytes(tensor)] if gap is None else [_bytes(tensor), _tag(_RAW_DATA_FIELD) + _varint(gap), gap]


def _delimited(field: int, inside: Pieces) -> Pieces:
    return [_tag(field) + _varint(size(inside)), *inside]


def _tag(field: int) -> bytes:
    """Return what announces a field whose length comes first (wire type 2)."""
    return _varint(field << 3 | 2)


def _without(message: Message, *fields: str) -> Message:
    """Return a copy that has not these fields."""
    found = type(message)()
    found.CopyFrom(message)
    for name in fields:
        found.ClearField(name)
    return found


def _joined(pieces: Pieces) -> Iterator[bytes | int]:
    """Yield the same with bytes and gaps in turn."""
    waiting: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, int):
            yield b"".join(waiting)
            yield piece
            waiting = []
        else:
            waiting.append(piece)
    yield b"".join(waiting)


def _bytes(message: Message) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _varint(value: int) -> bytes:
    """Return a whole number as protobuf writes it, seven bits a byte.

    >>> _varint(300).hex()
    'ac02'
    """
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
