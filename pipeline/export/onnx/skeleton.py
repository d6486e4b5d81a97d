"""Skeletons of ONNX files: the file without its weights' bytes, and a note of what to fill in for them.

Latency and power of a dense network depend on its shapes, not on the trained values, so a candidate travels as a few
kilobytes. The agent puts seeded, normal-range random values where the weights were (never zeros or denormal numbers,
whose arithmetic takes another time) and so gets a file of the same structure: nodes, attributes, shapes and bytes of
weights are those of the original, only the names inside are shorter.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto, numpy_helper

from pipeline.export.onnx.serialized import Pieces, size, with_gaps
from pipeline.export.skeleton_container import SMALLEST_FILL_BYTES, Fill, deviation, pack_rest

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})
_SHORT_WEIGHT = struct.pack("<f", 0.1)


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
    gaps = {}
    for index, tensor in enumerate(proto.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        if not tensor.raw_data:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        if len(tensor.raw_data) >= SMALLEST_FILL_BYTES:
            gaps[index] = len(tensor.raw_data)
            tensor.ClearField("raw_data")
    return weightless(proto, gaps)


def weightless(proto: onnx.ModelProto, gaps: Mapping[int, int]) -> bytes:
    """Return the stand-in of a file whose larger weights were never written; names in ``proto`` are shortened.

    Args:
        gaps: index of an initializer without data → its float values' bytes.
    """
    _make_up_short_weights(proto.graph)
    _shorten_names(proto.graph)
    pieces = with_gaps(proto, gaps)
    rest = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return pack_rest(size(pieces), list(_fills(proto.graph, gaps, pieces)), rest)


def _make_up_short_weights(graph: onnx.GraphProto) -> None:
    """Replace weights and biases that are too short to be left out: of one structure there is then one skeleton.

    So an engine that a board has built for it, which takes minutes, serves any other weights in that structure.
    """
    read = {name for node in graph.node if node.op_type in _LAYERS for name in node.input[1:]}
    for tensor in graph.initializer:
        length = len(tensor.raw_data)
        if tensor.name in read and tensor.data_type == TensorProto.FLOAT and 0 < length < SMALLEST_FILL_BYTES:
            tensor.raw_data = _SHORT_WEIGHT * (length // len(_SHORT_WEIGHT))


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Give every value but the graph's inputs and outputs a short name: a third of a skeleton is names."""
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


def _fills(graph: onnx.GraphProto, gaps: Mapping[int, int], pieces: Pieces) -> Iterator[Fill]:
    norms = {n: i for node in graph.node if node.op_type == "BatchNormalization" for i, n in enumerate(node.input)}
    tensors = (graph.initializer[index] for index in sorted(gaps))
    offset = 0
    for piece in pieces:
        if isinstance(piece, int):
            tensor = next(tensors)
            yield Fill(offset, piece, *_distribution(tensor, norms.get(tensor.name)))
        offset += piece if isinstance(piece, int) else len(piece)


def _distribution(tensor: TensorProto, norm_input: int | None) -> tuple[float, float]:
    """Return mean and deviation that keep activations in normal range: He et al. (2015) for weights."""
    if norm_input in (1, 4):  # batch norm's scale and variance: around one, never negative
        return 1.0, 0.1
    if len(tensor.dims) < 2:
        return 0.0, 0.1
    return 0.0, deviation(math.prod(tensor.dims[1:]))
