"""QDQ writer: a float ONNX file and its values' ranges become a static INT8 file.

uint8 activations, int8 weights with a scale for each output channel (U8S8); the file takes and gives float32 as before.
ONNX Runtime fuses what follows its rules to the letter, and answers right but up to five times slower where one is
broken: a scale is a number, not a list of one; a bias' scale is exactly the product of the other two, its zero point 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.export.quantization.placement import Placement, is_weighted
from pipeline.export.quantization.ranges import Range
from pipeline.export.quantization.value_graph import attribute
from pipeline.records import WeightBits

OLDEST_OPSET = 13
"""The first whose DequantizeLinear has a scale for each channel."""
_TOP_ACTIVATION = 127
_SMALLEST_SCALE = 1e-10
_BIAS_ROOM = 2.0**30
"""A bias, in units of its scale, stays below: int32 ends at twice as much."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How activations and weights are rounded; weights are int8 by channel in each."""

    name: str
    is_signed: bool = False
    """int8 activations instead of uint8."""
    is_symmetric: bool = False
    """Their zero point is 0."""
    has_int8_bias_scale: bool = True
    """Biases are int32 in units of the two scales' product; else they stay float32."""
    weight_bits: WeightBits = 8
    """By the processors that the file runs on, see ``quantization.saturation``."""

    @property
    def largest_weight(self) -> int:
        """Of either sign: −128 is not used, so that a scale is the same on both sides of 0."""
        return 127 if self.weight_bits == 8 else 63


U8S8 = Scheme("u8s8")
"""For ONNX Runtime."""
S8S8 = Scheme("s8s8", is_signed=True)
"""For processors other than x86, where it may be the faster one."""
S8S8_SYMMETRIC = Scheme("s8s8-symmetric", is_signed=True, is_symmetric=True, has_int8_bias_scale=False)
"""What TensorRT takes."""
SCHEMES = {scheme.name: scheme for scheme in (U8S8, S8S8, S8S8_SYMMETRIC)}
"""By their names."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Scale and zero point of an activation."""

    scale: np.float32
    zero_point: np.uint8 | np.int8


def rounding(found: Range, scheme: Scheme = U8S8) -> Rounding:
    """Return the scale and zero point of a range, widened to hold 0.

    >>> rounding(Range(0.0, 5.1))
    Rounding(scale=np.float32(0.02), zero_point=np.uint8(0))
    """
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    dtype = np.int8 if scheme.is_signed else np.uint8
    if scheme.is_symmetric:
        return Rounding(
            np.float32(max(-low, high, _SMALLEST_SCALE) / _TOP_ACTIVATION), dtype(0 if scheme.is_signed else 128)
        )
    scale = np.float32(max(high - low, _SMALLEST_SCALE) / 255)
    zero = int(np.clip(round(-low / float(scale)), 0, 255))
    return Rounding(scale, dtype(zero - 128 if scheme.is_signed else zero))


def write_qdq(placement: Placement, ranges: Mapping[str, Range], scheme: Scheme = U8S8) -> onnx.ModelProto:
    """Return the INT8 file.

    Args:
        placement: which nodes and values; of a float32 file of opset 13 or later.
        ranges: of each of ``placement.ranged``.
    """
    return _Writer(placement, ranges, scheme).written()


@dataclass
class _Writer:
    placement: Placement
    ranges: Mapping[str, Range]
    scheme: Scheme
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.graph = self.placement.graph
        self.taken = {*self.graph.constants, *self.graph.inputs, *self.graph.makers}

    def written(self) -> onnx.ModelProto:
        for name in self.graph.inputs:
            if name in self.placement.scale_of:
                self._pair(name, name)
        for number, node in enumerate(self.graph.nodes):
            if number not in self.placement.absorbed:
                self._write(number, node)
        model = onnx.ModelProto()
        model.CopyFrom(self.graph.model)
        del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
        model.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input} | self.graph.outputs
        model.graph.initializer.extend(t for n, t in self.graph.constants.items() if n in read)
        model.graph.initializer.extend(self.tensors)
        _drop_unread_inputs(model, read)
        return model

    def _write(self, number: int, node: NodeProto) -> None:
        """Write a node that reads dequantized values, and the pair behind each value of its own that has one."""
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._dequantized(name) for name in node.input]
        if number in self.placement.nodes:
            if is_weighted(node):
                self._quantize_weights(node, copy)
            else:
                copy.input[:] = [self._constant_pair(name) for name in copy.input]
        results = [self.placement.output_of(number)] if number in self.placement.nodes else list(node.output)
        copy.output[:] = [self._raw(name) for name in results]
        self.nodes.append(copy)
        for name in results:
            if name in self.placement.scale_of:
                self._pair(self._raw(name), name)

    def _raw(self, name: str) -> str:
        """Return what a value is called before its pair; the file's own outputs keep their name behind it."""
        has_pair_at_end = name in self.graph.outputs and name in self.placement.scale_of
        return f"{name}/float" if has_pair_at_end else name

    def _dequantized(self, name: str) -> str:
        if name not in self.placement.scale_of or name in self.graph.outputs:
            return name
        return f"{name}/dequantized"

    def _pair(self, raw: str, name: str) -> None:
        found = rounding(self.ranges[self.placement.scale_of[name]], self.scheme)
        scale, zero = self._constant(f"{name}/scale", found.scale), self._constant(f"{name}/zero", found.zero_point)
        quantized = f"{name}/quantized"
        self.nodes.append(helper.make_node("QuantizeLinear", [raw, scale, zero], [quantized]))
        self.nodes.append(helper.make_node("DequantizeLinear", [quantized, scale, zero], [self._dequantized(name)]))

    def _constant_pair(self, name: str) -> str:
        """Return a float constant in uint8, dequantized; another value as it is."""
        constant = self.graph.array(name)
        if constant is None:
            return name
        values = np.asarray(constant, np.float32)
        found = rounding(Range(float(values.min()), float(values.max())), self.scheme)
        rounded = np.rint(values / found.scale) + float(found.zero_point)
        info = np.iinfo(found.zero_point.dtype)
        rounded = np.clip(rounded, info.min, info.max).astype(found.zero_point.dtype)
        stem = self._fresh(name)
        parts = {"quantized": rounded, "scale": found.scale, "zero": found.zero_point}
        held = [self._constant(f"{stem}/{part}", value) for part, value in parts.items()]
        self.nodes.append(helper.make_node("DequantizeLinear", held, [f"{stem}/dequantized"]))
        return f"{stem}/dequantized"

    def _quantize_weights(self, node: NodeProto, copy: NodeProto) -> None:
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        weight = np.asarray(self.graph.array(node.input[1]), np.float32)
        bias = self.graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        largest = self.scheme.largest_weight
        read = float(rounding(self.ranges[self.placement.scale_of[node.input[0]]], self.scheme).scale)
        scales = weight_scales(weight, axis, bias, read, largest)
        stem = self._fresh(node.input[1])
        integers = np.rint(weight / scales.reshape(_along(axis, weight.ndim)))
        copy.input[1] = self._by_channel(stem, np.clip(integers, -largest, largest).astype(np.int8), scales, axis)
        if bias is not None and self.scheme.has_int8_bias_scale:
            units = np.float32(read) * scales
            copy.input[2] = self._by_channel(
                self._fresh(node.input[2]), np.rint(bias / units.astype(np.float64)).astype(np.int32), units, 0
            )

    def _by_channel(self, stem: str, integers: NDArray[np.generic], scales: NDArray[np.float32], axis: int) -> str:
        zeros = np.zeros(len(scales), integers.dtype)
        parts = {"quantized": integers, "scale": scales, "zero": zeros}
        held = [self._constant(f"{stem}/{part}", value) for part, value in parts.items()]
        self.nodes.append(helper.make_node("DequantizeLinear", held, [f"{stem}/dequantized"], axis=axis))
        return f"{stem}/dequantized"

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        # np.ascontiguousarray would make a list of one of a number, and ONNX Runtime would not fuse what reads it
        self.tensors.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def _fresh(self, name: str) -> str:
        """Return a name for one more use of a constant: two layers may share weights, and differ in what they read."""
        found = next(one for one in _numbered(name) if one not in self.taken)
        self.taken.add(found)
        return found


def weight_scales(
    weight: NDArray[np.float32], axis: int, bias: NDArray[np.generic] | None, read_scale: float, largest: int
) -> NDArray[np.float32]:
    """Return a scale for each output channel: its largest weight becomes ±``largest``.

    A channel whose weights are almost nothing beside its bias gets a larger one, in which the bias fits int32: else the
    bias, often all that is left of a pruned channel, would be cut off.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    found = np.abs(weight).max(axis=others).astype(np.float64)
    needed = np.zeros_like(found) if bias is None else np.abs(bias) / (read_scale * _BIAS_ROOM)
    return np.asarray(np.maximum(np.maximum(found / largest, needed), _SMALLEST_SCALE), np.float32)


def _along(axis: int, dimensions: int) -> Sequence[int]:
    return [-1 if i == axis else 1 for i in range(dimensions)]


def _numbered(name: str) -> Iterator[str]:
    return itertools.chain([f"{name}/int8"], (f"{name}/int8.{number}" for number in itertools.count(2)))


def _drop_unread_inputs(model: onnx.ModelProto, read: set[str]) -> None:
    """Take away initializers that an older file lists among its inputs and that are int8 now."""
    there = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name in read or value.name in there]
    del model.graph.input[:]
    model.graph.input.extend(kept)
