"""Which precisions a device and a run can have."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records import Device
from pipeline.run.precision import why_impossible
from tests.pipeline.run.toy_run import configured


class _Agent:
    """What is asked of a device before anything is measured."""

    def __init__(self, **settings: Any) -> None:
        self.device = Device(name="d", kind="linux", **settings)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
def test_fp16_belongs_to_tensorrt(runtime: str) -> None:
    why = why_impossible(configured(), _Agent(runtime=runtime), None, "fp16")  # type: ignore[arg-type]
    assert why.startswith(f"d runs {runtime}, which computes no faster in FP16 on a processor")
