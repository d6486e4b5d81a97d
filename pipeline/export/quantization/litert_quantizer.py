"""Static INT8 of a TFLite file by LiteRT's own quantizer, with ranges of ours and float32 at both ends.

int8 weights with a scale for each output channel, int8 activations with a zero point. The quantizer's own calibration
keeps a moving average, which cuts off what is rare, and takes ten times as long: ours keeps the smallest and largest
value. Its files take and give int8 unless told otherwise; ours float32, as agents and examples feed and read them,
which costs no time that was seen.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pipeline.errors import ExportError, first_line
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.quantization.bias_room import make_room
from pipeline.export.quantization.qdq import Scheme
from pipeline.export.quantization.ranges import Range, require_finite
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.interpreter import OpenFile
from pipeline.export.tflite.template import LAYERS

STATIC = Scheme("static-wi8-ai8", is_signed=True)
"""int8 activations with a zero point, as LiteRT's quantizer calls it."""
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedTFLite:
    """An INT8 file, and how it was made."""

    data: bytes
    ranges: Mapping[str, Range]
    operators: int
    """That compute in INT8: a TFLite file says so itself."""
    layers: tuple[str, ...]
    """With weights, by their weights' names, in order."""
    float_layers: tuple[str, ...]
    """Of these, the ones that stay float32."""
    scheme: Scheme = STATIC

    @property
    def planned(self) -> int:
        """Operators that were to be INT8: a runtime obeys."""
        return self.operators


class FloatFile:
    """A float32 file each of whose tensors has a name of its own, by which the quantizer knows it."""

    def __init__(self, data: bytes) -> None:
        """Read the file; its tensors are called by their numbers and what they were called before."""
        self.model = flatbuffer.read(data)
        tensors = self.model.subgraphs[0].tensors
        self._names = [(tensor.name or b"").decode() for tensor in tensors]
        for number, tensor in enumerate(tensors):
            tensor.name = f"{number}:{self._names[number]}".encode()

    @property
    def activations(self) -> dict[int, str]:
        """Tensors of float32 that are fed or computed: number → name."""
        graph = self.model.subgraphs[0]
        computed = itertools.chain(graph.inputs, *(operator.outputs for operator in graph.operators))
        tensors = ((int(number), graph.tensors[number]) for number in computed)
        return {number: one.name.decode() for number, one in tensors if one.type == schema.TensorType.FLOAT32}

    @property
    def layers(self) -> dict[str, list[int]]:
        """Weights of layers by name, in order, → the tensors that are made with them; none that have no name."""
        found: dict[str, list[int]] = {}
        for operator in self.model.subgraphs[0].operators:
            if flatbuffer.kind(self.model, operator) in LAYERS and (name := self._names[operator.inputs[1]]):
                found.setdefault(name, []).append(int(operator.outputs[0]))
        return found

    def ranges(self, images: NDArray[np.float32]) -> dict[str, Range]:
        """Return the smallest and largest number of each activation over ``images`` (N, C, H, W).

        Raises:
            ExportError: one is not finite.
        """
        file, activations = OpenFile(flatbuffer.write(self.model), keep_values=True), self.activations
        low, high = (np.full(len(activations), end) for end in (np.inf, -np.inf))
        for image in images:
            file.run(image)
            values = [file.value(number) for number in activations]
            low = np.minimum(low, [value.min() for value in values])
            high = np.maximum(high, [value.max() for value in values])
        found = zip(activations.values(), low, high, strict=True)
        ranges = {name: Range(float(least), float(most)) for name, least, most in found}
        require_finite(ranges)
        return ranges


def quantize(file: FloatFile, ranges: Mapping[str, Range], *, float_layers: Collection[str] = ()) -> QuantizedTFLite:
    """Return the INT8 file of a float32 one.

    Args:
        file: what is quantized.
        ranges: of its activations, by name.
        float_layers: by their weights' names; those that the file has not got are passed over.

    Raises:
        ExportError: nothing in it can be quantized, the quantizer fails, or LiteRT does not load what it makes.
    """
    kept = tuple(name for name in file.layers if name in float_layers)
    float_outputs = [tensor for name in kept for tensor in file.layers[name]]
    prepared = copy.copy(file.model)
    prepared.buffers = list(file.model.buffers)
    make_room(prepared, ranges, float_outputs)
    model = flatbuffer.read(_quantized(prepared, ranges, float_outputs))
    flatbuffer.name_ends(model, INPUT, OUTPUT)
    operators = _int8_operators(model)
    if operators == 0:
        raise ExportError("the file has no operator that can be quantized to INT8")
    data = flatbuffer.write(model)
    _require_loadable(data)
    return QuantizedTFLite(data=data, ranges=ranges, operators=operators, layers=tuple(file.layers), float_layers=kept)


def _quantized(model: flatbuffer.Model, ranges: Mapping[str, Range], float_outputs: Iterable[int]) -> bytes:
    """Return the quantizer's file.

    Args:
        model: each of its tensors has a name of its own.
        ranges: of its activations, by name.
        float_outputs: tensors whose makers stay float32.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe  # takes seconds to import

    whole = quantizer.Quantizer(flatbuffer.write(model), recipe.static_wi8_ai8())
    kinds, none = qtyping.TFLOperationName, quantizer.AlgorithmName.NO_QUANTIZE
    for end in (kinds.INPUT, kinds.OUTPUT):
        whole.update_quantization_recipe(".*", end, algorithm_key=none)
    for tensor in float_outputs:
        whole.update_quantization_recipe(f"^{tensor}:", kinds.ALL_SUPPORTED, algorithm_key=none)
    given = {name: {"min": np.float32(found.low), "max": np.float32(found.high)} for name, found in ranges.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its interpreter keeps values
            made = whole.quantize(given, enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:  # the quantizer's errors share no base
        raise ExportError(f"the file cannot be quantized to INT8: {first_line(error)}") from error
    return bytes(made.quantized_model)


def _require_loadable(data: bytes) -> None:
    try:
        OpenFile(data)
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"LiteRT does not load the INT8 file: {first_line(error)}") from error


def _int8_operators(model: flatbuffer.Model) -> int:
    """Return how many operators read INT8 and do more than convert it."""
    graph = model.subgraphs[0]
    return sum(
        flatbuffer.kind(model, operator) not in _CONVERSIONS
        and any(graph.tensors[i].type == schema.TensorType.INT8 for i in operator.inputs if i >= 0)
        for operator in graph.operators
    )
