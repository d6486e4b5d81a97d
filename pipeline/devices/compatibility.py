"""Device compatibility: opset and IR limits of a runtime, channel alignment of a processor."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records import OnnxSupport

CHANNEL_STEPS: Mapping[str, int] = {"avx512": 16, "avx2": 8, "neon": 8, "none": 1}
"""Output channels that cost as much as one of them, by the processor's vectors.

The block of ONNX Runtime's NCHWc convolutions (``MlasNchwcGetBlockSize``: 16 floats with AVX-512, 8 with AVX); on
NEON, the tiles of four and eight channels of the GEMM kernels of MLAS and XNNPACK.
"""


ONNX_SUPPORT: Mapping[tuple[int, int], OnnxSupport] = {
    (1, 7): OnnxSupport(13, 7),
    (1, 8): OnnxSupport(14, 7),
    (1, 9): OnnxSupport(15, 7),
    (1, 10): OnnxSupport(15, 8),
    (1, 11): OnnxSupport(16, 8),
    (1, 12): OnnxSupport(17, 8),
    (1, 13): OnnxSupport(17, 8),
    (1, 14): OnnxSupport(18, 8),
    (1, 15): OnnxSupport(19, 9),
    (1, 16): OnnxSupport(19, 9),
    (1, 17): OnnxSupport(20, 9),
    (1, 18): OnnxSupport(21, 10),
}
"""onnxruntime's version → limits: the ONNX release that each was built with (onnxruntime.ai, Compatibility), and that
release's opset and IR (onnx, docs/Versioning.md). Later ones load these too; nothing that we export needs newer."""

_OLDEST_SUPPORT = OnnxSupport(13, 7)


def onnx_support_of(version: str) -> OnnxSupport:
    """Return the limits of onnxruntime ``version``; those of the oldest known where it says nothing.

    >>> onnx_support_of("1.10.0"), onnx_support_of("1.31.1"), onnx_support_of("")
    (OnnxSupport(opset=15, ir=8), OnnxSupport(opset=21, ir=10), OnnxSupport(opset=13, ir=7))
    """
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return _OLDEST_SUPPORT
    older = [v for v in ONNX_SUPPORT if v <= (major, minor)]
    return ONNX_SUPPORT[max(older)] if older else _OLDEST_SUPPORT
