"""Device compatibility: opset and IR limits of a runtime, channel alignment of a processor."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records import OnnxLimits

CHANNEL_STEPS: Mapping[str, int] = {"avx512": 16, "avx2": 8, "neon": 8, "none": 1}
"""Output channels that cost as much as one of them, by the processor's vectors.

The block of ONNX Runtime's NCHWc convolutions (``MlasNchwcGetBlockSize``: 16 floats with AVX-512, 8 with AVX); on
NEON, the tiles of four and eight channels of the GEMM kernels of MLAS and XNNPACK.
"""


OLDEST_LIMITS = OnnxLimits(13, 7)
"""Of ONNX 1.8, which onnxruntime 1.7 and TensorRT 8.0 were built with; whatever loads ONNX loads these."""


def limits_of(version: str, newest: Mapping[tuple[int, int], OnnxLimits]) -> OnnxLimits:
    """Return the limits of a runtime's ``version``; the oldest known where it says nothing.

    Args:
        newest: the runtime's version → the newest ONNX that it loads from that one on.

    >>> newest = {(1, 10): OnnxLimits(15, 8), (1, 18): OnnxLimits(21, 10)}
    >>> limits_of("1.12.0", newest), limits_of("1.31.1", newest), limits_of("", newest)
    (OnnxLimits(opset=15, ir=8), OnnxLimits(opset=21, ir=10), OnnxLimits(opset=13, ir=7))
    """
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return OLDEST_LIMITS
    older = [v for v in newest if v <= (major, minor)]
    return newest[max(older)] if older else OLDEST_LIMITS
