"""Which precisions a device and a run can have."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.objective.load import classification, load_task
from pipeline.records import Device
from pipeline.run.decision_kind import Circumstances
from pipeline.run.precision import why_impossible
from tests.pipeline.run.toy_run import configured


class _Agent:
    """What is asked of a device before anything is measured."""

    def __init__(self, **settings: Any) -> None:
        self.device = Device(name="d", kind="linux", **settings)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
def test_fp16_belongs_to_tensorrt(runtime: str) -> None:
    known = Circumstances(configured(), _Agent(runtime=runtime), None, classification())  # type: ignore[arg-type]
    why = why_impossible(known, "fp16")
    assert why.startswith(f"d runs {runtime}, which computes no faster in FP16 on a processor")


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_what_is_judged_by_classes_needs_a_task_that_has_some(precision: str) -> None:
    agent = _Agent(runtime="tensorrt" if precision == "fp16" else "onnxruntime")
    known = Circumstances(configured(), agent, None, load_task("regression"))  # type: ignore[arg-type]
    assert "task regression puts none into a class" in why_impossible(known, precision)
