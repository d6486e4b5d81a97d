"""ONNX files for the virtual TensorRT, written by hand: what they compute is told in JSON, as the file's doc_string."""

import json


def onnx_file(told, *, operators=(), metadata=None):
    """Return a file that tells the virtual TensorRT this, has nodes of these kinds, and these metadata properties."""
    nodes = b"".join(_field(1, _field(4, kind.encode())) for kind in operators)
    pairs = b"".join(
        _field(14, _field(1, key.encode()) + _field(2, value.encode())) for key, value in (metadata or {}).items()
    )
    return _field(6, json.dumps(told).encode()) + _field(7, nodes) + pairs


def _field(number, content):
    return bytes([number << 3 | 2]) + _length(len(content)) + content


def _length(value):
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _length(value >> 7)
