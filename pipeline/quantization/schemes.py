"""Quantization schemes of a board: on x86 known, elsewhere measured; the bits of weights by board and host.

On x86 ONNX Runtime computes nothing of signed activations in INT8, and is slower with them than in float32 (ResNet-20
1.6 to 2 times, MobileNetV2 about as fast, against 0.5 to 0.7 with unsigned ones). On other processors either may be the
faster one. Both round to the same steps, so that accuracy does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.export.quantization.qdq import S8S8, S8S8_SYMMETRIC, U8S8, Scheme
from pipeline.quantization.saturation import weight_bits
from pipeline.records import Processor

TENSORRT = "tensorrt"
"""The runtime."""


def schemes_of(
    boards: Sequence[Processor], host: Processor, format: str, runtime: str = "onnxruntime"
) -> tuple[Scheme, ...]:
    """Return the schemes that may be the fastest on boards of one kind, the usual one first.

    Args:
        boards: their processors.
        host: the processor that reads accuracy.
        format: of the model files; TFLite has one scheme of its own.
        runtime: TensorRT takes one scheme alone.

    >>> pi, host = Processor("aarch64"), Processor("x86_64", has_vnni=True)
    >>> [(scheme.name, scheme.weight_bits) for scheme in schemes_of([pi], host, "onnx")]
    [('u8s8', 8), ('s8s8', 8)]
    >>> [(scheme.name, scheme.weight_bits) for scheme in schemes_of([Processor("x86_64")], host, "onnx")]
    [('u8s8', 7)]
    """
    found: tuple[Scheme, ...] = (U8S8, S8S8)
    if runtime == TENSORRT:
        found = (S8S8_SYMMETRIC,)
    elif format != "onnx" or any(board.is_x86 for board in boards):
        found = (U8S8,)
    bits = weight_bits([host, *boards])
    return tuple(replace(scheme, weight_bits=bits) for scheme in found)
