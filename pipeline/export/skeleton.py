"""Weightless probes of ONNX files: the file without its weights' bytes, and a note of what to fill in for them.

Latency and power of a dense network depend on its shapes, not on the trained values, so a candidate travels as a few
kilobytes. The agent puts seeded, normal-range random values where the weights were (never zeros or denormal numbers,
whose arithmetic takes another time) and so gets a file of the same structure: nodes, attributes, shapes and bytes of
weights are those of the original, only the names inside are shorter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper

from pipeline.export.fill import SMALLEST_FILL_BYTES, Fill, deviation, pack

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9  # field numbers of onnx.proto


def skeleton(model: bytes) -> bytes:
    """Return the weightless stand-in of an ONNX file whose weights are inside it.

    >>> from onnx import helper
    >>> weight = numpy_helper.from_array(__import__("numpy").ones((64, 64), "float32"), "w")
    >>> graph = helper.make_graph([], "g", [], [], [weight])
    >>> data = helper.make_model(graph).SerializeToString()
    >>> len(data) > 16_000, len(skeleton(data)) < 150
    (True, True)
    """
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and not tensor.raw_data:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    _shorten_names(proto.graph)
    data = proto.SerializeToString(deterministic=True)
    return pack(data, list(_fills(proto, data)))


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Give every value but the graph's inputs and outputs a short name: a third of a probe is names."""
    inner = any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)
    if inner or graph.sparse_initializer or graph.quantization_annotation:
        return  # these refer to names as well
    short = {value.name: value.name for value in (*graph.input, *graph.output)}
    fresh = (name for name in map("{:x}".format, itertools.count()) if name not in short)

    def shortened(name: str) -> str:
        if name and name not in short:  # an empty name stands for an absent optional input
            short[name] = next(fresh)
        found: str = short.get(name, "")
        return found

    for tensor in graph.initializer:
        tensor.name = shortened(tensor.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        for values in (node.input, node.output):
            values[:] = [shortened(name) for name in values]
    del graph.value_info[:]
    graph.doc_string = ""


def _fills(proto: onnx.ModelProto, data: bytes) -> Iterator[Fill]:
    ranges = [r for graph in _field(data, 0, len(data), _MODEL_GRAPH) for r in _field(data, *graph, _GRAPH_INITIALIZER)]
    norms = {
        n: i for node in proto.graph.node if node.op_type == "BatchNormalization" for i, n in enumerate(node.input)
    }
    for tensor, bounds in zip(proto.graph.initializer, ranges, strict=True):
        raw = next(_field(data, *bounds, _TENSOR_RAW_DATA), None)
        if raw is None or tensor.data_type != TensorProto.FLOAT or raw[1] - raw[0] < SMALLEST_FILL_BYTES:
            continue
        mean, std = _distribution(tensor, norms.get(tensor.name))
        yield Fill(raw[0], raw[1] - raw[0], mean, std)


def _distribution(tensor: TensorProto, norm_input: int | None) -> tuple[float, float]:
    """Return mean and deviation that keep activations in normal range: He et al. (2015) for weights."""
    if norm_input in (1, 4):  # batch norm's scale and variance: around one, never negative
        return 1.0, 0.1
    if len(tensor.dims) < 2:
        return 0.0, 0.1
    return 0.0, deviation(math.prod(tensor.dims[1:]))


def _field(data: bytes, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Yield where the contents of each length-delimited field ``number`` of a protobuf message lie.

    The wire format: https://protobuf.dev/programming-guides/encoding/
    """
    position = start
    while position < end:
        tag, position = _varint(data, position)
        wire_type = tag & 7
        if wire_type == 0:
            _, position = _varint(data, position)
        elif wire_type == 2:
            length, position = _varint(data, position)
            if tag >> 3 == number:
                yield position, position + length
            position += length
        else:
            position += 8 if wire_type == 1 else 4


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
