"""Room for biases in a TFLite file: in its channel's scale a bias has to fit int32.

LiteRT's quantizer takes a channel's scale of its weights alone. Where these are almost nothing beside the bias, often
all that training has left of a channel, the bias would be cut off, and with it the answers. So such a channel gets one
weight that makes the scale large enough; at most 3e-5 of the bias comes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pipeline.export.quantization.qdq import rounding, weight_scales
from pipeline.export.quantization.ranges import Range
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.template import LAYERS

_LARGEST = 127
"""Weight of LiteRT's quantizer; no runtime of its files saturates."""
_ROUNDING = 1e-6


def make_room(model: flatbuffer.Model, ranges: Mapping[str, Range], float_outputs: Collection[int]) -> None:
    """Change weights in place where a bias would be cut off.

    Args:
        model: of float32, its list of buffers its own; each tensor has a name.
        ranges: of its activations, by name.
        float_outputs: tensors whose makers stay float32, and keep their weights.
    """
    graph = model.subgraphs[0]
    for operator in graph.operators:
        kind = flatbuffer.kind(model, operator)
        if kind in LAYERS and len(operator.inputs) > 2 and int(operator.outputs[0]) not in float_outputs:
            read, weight, bias = (graph.tensors[i] for i in operator.inputs[:3])
            found = ranges.get(read.name.decode())
            if found is not None and operator.inputs[2] >= 0:
                scale = float(rounding(found).scale)
                _make_room(model, weight, bias, scale, axis=3 if kind == "DEPTHWISE_CONV_2D" else 0)


def _make_room(
    model: flatbuffer.Model, weight: flatbuffer.Tensor, bias: flatbuffer.Tensor, read_scale: float, axis: int
) -> None:
    values, biases = flatbuffer.constant(model, weight), flatbuffer.constant(model, bias)
    if values is None or values.dtype != np.float32:
        return
    channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).copy()
    scales = weight_scales(values, axis, biases, read_scale, _LARGEST)
    small = scales * _LARGEST > np.abs(channels).max(1) * (1 + _ROUNDING)
    if small.any():
        channels[small, 0] = scales[small] * _LARGEST
        others = [length for place, length in enumerate(values.shape) if place != axis]
        changed = np.moveaxis(channels.reshape(len(channels), *others), 0, axis)
        model.buffers[weight.buffer] = flatbuffer.new_buffer(changed)
