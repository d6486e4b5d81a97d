"""Operators and metadata of an ONNX file, read from its protobuf without the onnx package, which boards seldom have.

Only what is needed of the format (protobuf.dev, "Encoding"): ModelProto.graph is field 7, GraphProto.node field 1,
NodeProto.op_type field 4; ModelProto.metadata_props is field 14, of pairs whose key is field 1 and value field 2.
Everything else is skipped by its length.
"""

import contextlib
import mmap
from typing import Dict, Iterator, Tuple, Union

_GRAPH, _NODE, _OP_TYPE = 7, 1, 4
_METADATA, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

INT8 = ("QLinear", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
"""What the names of ONNX Runtime's INT8 operators begin with."""

Bytes = Union[bytes, mmap.mmap]


def operators(path: str) -> Dict[str, int]:
    """Return how many operators of each kind a file's graph has.

    Raises:
        ValueError: it is no ONNX file, or not whole.
    """
    found: Dict[str, int] = {}
    with _opened(path) as data:
        for graph in _fields(data, (0, len(data)), _GRAPH):
            for node in _fields(data, graph, _NODE):
                for span in _fields(data, node, _OP_TYPE):
                    kind = _text(data, span)
                    found[kind] = found.get(kind, 0) + 1
    return found


def metadata(path: str) -> Dict[str, str]:
    """Return what whoever wrote a file says of it: key and value of each of its metadata properties.

    Raises:
        ValueError: it is no ONNX file, or not whole.
    """
    found: Dict[str, str] = {}
    with _opened(path) as data:
        for pair in _fields(data, (0, len(data)), _METADATA):
            keys = [_text(data, span) for span in _fields(data, pair, _KEY)]
            values = [_text(data, span) for span in _fields(data, pair, _VALUE)]
            found.update(zip(keys[-1:], values[-1:] or [""]))
    return found


def is_quantized(found: Dict[str, int]) -> bool:
    """Return whether a file holds quantize-dequantize pairs, which a runtime may turn into INT8 operators."""
    return "QuantizeLinear" in found


def int8(found: Dict[str, int]) -> int:
    """Return how many of the operators compute in INT8.

    >>> int8({"QLinearConv": 21, "QGemm": 1, "Conv": 2})
    22
    """
    return sum(count for kind, count in found.items() if kind.startswith(INT8))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[mmap.mmap]:
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            raise ValueError("%s is empty" % path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _text(data: Bytes, span: Tuple[int, int]) -> str:
    return bytes(data[span[0] : span[1]]).decode("utf-8", "replace")


def _fields(data: Bytes, span: Tuple[int, int], wanted: int) -> Iterator[Tuple[int, int]]:
    """Yield where the contents of each field of that number lie in a message."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length, at = _varint(data, at, end)
            if at + length > end:
                raise ValueError("the file is cut off")
            if number == wanted:
                yield at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("this is no ONNX file")


def _varint(data: Bytes, at: int, end: int) -> Tuple[int, int]:
    """Return a number and where the next begins."""
    value, shift = 0, 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("the file is cut off")
