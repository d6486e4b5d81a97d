"""Of several precisions that pay, which one a run computes in, and what it says of the others."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records import Device, Figures, Interval, PrecisionDecision
from pipeline.run.precision import _fastest, why_impossible
from tests.examples import measurement
from tests.pipeline.run.toy_run import configured


def tried(precision: str, value: float, low: float, high: float) -> PrecisionDecision:
    figures = Figures(
        search_accuracy=0.9, test_accuracy=None, parameters=1, macs=1, size_bytes=1,
        measurement=measurement(1.0, ratio=Interval(value, low, high)),
    )  # fmt: skip
    return PrecisionDecision(precision=precision, why=f"networks compute in {precision}", base=figures)


@pytest.mark.parametrize(
    ("int8", "taken", "said"),
    [
        ((0.40, 0.38, 0.42), "int8", "FP16 is slower (0.60× [0.50, 0.70] of float32's latency)"),
        ((0.55, 0.45, 0.65), "fp16", "INT8 is not surely faster (0.55× [0.45, 0.65] of float32's latency)"),
        ((0.80, 0.75, 0.85), "fp16", "INT8 is slower (0.80× [0.75, 0.85] of float32's latency)"),
    ],
)
def test_int8_is_taken_before_fp16_where_it_is_faster_by_both_intervals(
    int8: tuple[float, float, float], taken: str, said: str
) -> None:
    found = _fastest([tried("fp16", 0.60, 0.50, 0.70), tried("int8", *int8)], ["and a reason"])
    assert found.precision == taken
    assert found.why == f"networks compute in {taken}; {said}; and a reason"


class _Agent:
    """What is asked of a device before anything is measured."""

    def __init__(self, **settings: Any) -> None:
        self.device = Device(name="d", kind="linux", **settings)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
def test_fp16_belongs_to_tensorrt(runtime: str) -> None:
    why = why_impossible(configured(), _Agent(runtime=runtime), None, "fp16")  # type: ignore[arg-type]
    assert why.startswith(f"d runs {runtime}, which computes no faster in FP16 on a processor")
