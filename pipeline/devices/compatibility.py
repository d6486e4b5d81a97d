"""Device compatibility: opset and IR limits of a runtime, channel alignment of a processor."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records import OnnxLimits

CHANNEL_STEPS: Mapping[str, int] = {"avx512": 16, "avx2": 8, "neon": 8, "none": 1}
"""Output channels that cost as much as one of them, by the processor's vectors.

The block of ONNX Runtime's NCHWc convolutions (``MlasNchwcGetBlockSize``: 16 floats with AVX-512, 8 with AVX); on
NEON, the tiles of four and eight channels of the GEMM kernels of MLAS and XNNPACK.
"""


ONNX_LIMITS: Mapping[tuple[int, int], OnnxLimits] = {
    (1, 7): OnnxLimits(13, 7),
    (1, 8): OnnxLimits(14, 7),
    (1, 9): OnnxLimits(15, 7),
    (1, 10): OnnxLimits(15, 8),
    (1, 11): OnnxLimits(16, 8),
    (1, 12): OnnxLimits(17, 8),
    (1, 13): OnnxLimits(17, 8),
    (1, 14): OnnxLimits(18, 8),
    (1, 15): OnnxLimits(19, 9),
    (1, 16): OnnxLimits(19, 9),
    (1, 17): OnnxLimits(20, 9),
    (1, 18): OnnxLimits(21, 10),
}
"""onnxruntime's version → limits: the ONNX release that each was built with (onnxruntime.ai, Compatibility), and that
release's opset and IR (onnx, docs/Versioning.md). Later ones load these too; nothing that we export needs newer."""

_OLDEST_LIMITS = OnnxLimits(13, 7)


def limits_of(version: str) -> OnnxLimits:
    """Return the limits of onnxruntime ``version``; those of the oldest known where it says nothing.

    >>> limits_of("1.10.0"), limits_of("1.31.1"), limits_of("")
    (OnnxLimits(opset=15, ir=8), OnnxLimits(opset=21, ir=10), OnnxLimits(opset=13, ir=7))
    """
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return _OLDEST_LIMITS
    older = [v for v in ONNX_LIMITS if v <= (major, minor)]
    return ONNX_LIMITS[max(older)] if older else _OLDEST_LIMITS
