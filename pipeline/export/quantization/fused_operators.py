"""Fused operators: how much of a QDQ file a runtime really computes in INT8.

A file that is slightly wrong still answers right, from float operators between conversions, and is up to five times
slower. So what the runtime makes of it is counted.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from pipeline.errors import ExportError, first_line
from pipeline.export.quantization.host_session import open_session

INT8 = ("QLinear", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
"""What the names of ONNX Runtime's INT8 operators begin with."""

_LAYERS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
"""Those of layers with weights."""


def operators(file: bytes) -> Mapping[str, int]:
    """Return how many operators of each kind ONNX Runtime runs on this machine, as it has optimised the file.

    Raises:
        ExportError: it does not load the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimised.onnx"
        try:
            open_session(file, optimised=written)
        except Exception as error:  # onnxruntime's errors share no base
            raise ExportError(f"ONNX Runtime does not load the INT8 file: {first_line(error)}") from error
        return Counter(node.op_type for node in onnx.load(written).graph.node)


def int8_operators(found: Mapping[str, int]) -> int:
    """Return how many of the operators compute in INT8.

    >>> int8_operators({"QLinearConv": 21, "QGemm": 1, "Conv": 2})
    22
    """
    return sum(count for kind, count in found.items() if kind.startswith(INT8))


def int8_layers(found: Mapping[str, int]) -> int:
    """Return how many layers with weights compute in INT8.

    >>> int8_layers({"QLinearConv": 21, "QLinearAdd": 9, "QGemm": 1, "Conv": 2})
    22
    """
    return sum(count for kind, count in found.items() if kind in _LAYERS)


def require_fused(file: bytes, planned: int, layers: int | None = None) -> int:
    """Return how many operators compute in INT8.

    Args:
        file: the QDQ file.
        planned: operators that were to be INT8.
        layers: those of them that have weights; None: not checked. A single float layer between INT8 ones is quantized
            all the same by newer versions, by scales of their own, and answers otherwise.

    Raises:
        ExportError: fewer than ``planned``; names what stayed float. Or more layers than were to be.
    """
    found = operators(file)
    fused = int8_operators(found)
    if layers is not None and int8_layers(found) > layers:
        raise ExportError(
            f"ONNX Runtime computes {int8_layers(found)} layers in INT8 where {layers} were to be: a single layer that "
            "stays float32 between others is quantized all the same; keep two neighbours or more, the first or the last"
        )
    if fused < planned:
        left = ", ".join(f"{n} {kind}" for kind, n in sorted(found.items()) if not kind.startswith(INT8))
        raise ExportError(f"ONNX Runtime computes {fused} of {planned} operators in INT8; what is left: {left}")
    return fused
