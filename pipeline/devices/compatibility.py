"""Device compatibility: opset and IR limits of a runtime, channel alignment of a processor."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records import OnnxSupport

CHANNEL_STEPS: Mapping[str, int] = {"avx512": 16, "avx2": 8, "neon": 8, "none": 1}
"""Output channels that cost as much as one of them, by the processor's vectors.

The block of ONNX Runtime's NCHWc convolutions (``MlasNchwcGetBlockSize``: 16 floats with AVX-512, 8 with AVX); on
NEON, the tiles of four and eight channels of the GEMM kernels of MLAS and XNNPACK.
"""


OLDEST_SUPPORT = OnnxSupport(13, 7)
"""Of ONNX 1.8, which onnxruntime 1.7 and TensorRT 8.0 were built with; whatever loads ONNX loads these."""


def onnx_support_of(version: str, newest: Mapping[tuple[int, int], OnnxSupport]) -> OnnxSupport:
    """Return the limits of a runtime's ``version``; the oldest known where it says nothing.

    Args:
        newest: the runtime's version → the newest ONNX that it loads from that one on.

    >>> newest = {(1, 10): OnnxSupport(15, 8), (1, 18): OnnxSupport(21, 10)}
    >>> onnx_support_of("1.12.0", newest), onnx_support_of("1.31.1", newest), onnx_support_of("", newest)
    (OnnxSupport(opset=15, ir=8), OnnxSupport(opset=21, ir=10), OnnxSupport(opset=13, ir=7))
    """
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return OLDEST_SUPPORT
    older = [v for v in newest if v <= (major, minor)]
    return newest[max(older)] if older else OLDEST_SUPPORT
