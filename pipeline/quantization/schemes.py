"""Quantization schemes of a board: on x86 known, elsewhere measured.

On x86 ONNX Runtime computes nothing of signed activations in INT8, and is slower with them than in float32 (ResNet-20
1.6 to 2 times, MobileNetV2 about as fast, against 0.5 to 0.7 with unsigned ones). On other processors either may be the
faster one. Both round to the same steps, so that accuracy does not tell them apart.
"""

from __future__ import annotations

from pipeline.export.quantization.qdq import S8S8, S8S8_SYMMETRIC, U8S8, Scheme

TENSORRT = "tensorrt"
"""The runtime."""
_X86 = frozenset({"x86_64", "AMD64", "i686", "i386"})


def schemes_of(machine: str, format: str, runtime: str = "onnxruntime") -> tuple[Scheme, ...]:
    """Return the schemes that may be the fastest on a processor, the usual one first.

    Args:
        machine: as ``platform.machine()`` calls it.
        format: of the model files; TFLite has one scheme of its own.
        runtime: TensorRT takes one scheme alone.

    >>> [scheme.name for scheme in schemes_of("x86_64", "onnx")], [s.name for s in schemes_of("aarch64", "onnx")]
    (['u8s8'], ['u8s8', 's8s8'])
    """
    if runtime == TENSORRT:
        return (S8S8_SYMMETRIC,)
    return (U8S8,) if machine in _X86 or format != "onnx" else (U8S8, S8S8)
