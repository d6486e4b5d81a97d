"""What a board can load follows from the runtime's version."""

from __future__ import annotations

import pytest

from pipeline.devices import agent_plugins
from pipeline.devices.compatibility import OnnxSupport, onnx_support_of


@pytest.mark.parametrize(
    ("version", "support"),
    [
        ("1.10.0", OnnxSupport(15, 8)),
        ("1.14.1", OnnxSupport(18, 8)),
        ("1.19.2", OnnxSupport(21, 10)),
        ("1.31.1", OnnxSupport(21, 10)),
        ("2.0", OnnxSupport(21, 10)),
        ("1.2.0", OnnxSupport(13, 7)),
        ("odd", OnnxSupport(13, 7)),
    ],
)
def test_onnx_limits_follow_the_runtime_s_version(version: str, support: OnnxSupport) -> None:
    assert onnx_support_of(version, agent_plugins.runtime_named("onnxruntime", None).newest_onnx()) == support


def test_a_runtime_that_does_not_say_what_it_loads_gets_the_oldest() -> None:
    assert onnx_support_of("10.3.0", agent_plugins.runtime_named("tensorrt", None).newest_onnx()) == OnnxSupport(13, 7)


@pytest.mark.parametrize(
    ("version", "computed", "left"),
    [
        ("1.8.1", "AveragePool", "GlobalAveragePool"), ("1.10.0", "Conv", "Gemm"), ("1.11.1", "Add", "Gemm"),
        ("1.12.1", "Gemm", "Softmax"), ("1.32.0", "GlobalAveragePool", "Softmax"), ("1.7.0", None, "Conv"),
    ],
)  # fmt: skip
def test_what_a_version_computes_in_int8_is_what_its_own_files_showed(
    version: str, computed: str | None, left: str
) -> None:
    found = agent_plugins.runtime_named("onnxruntime", None).computed_in_int8(version)
    assert found is not None
    assert computed is None or computed in found
    assert left not in found


def test_of_a_runtime_that_says_nothing_nothing_is_known() -> None:
    assert agent_plugins.runtime_named("tflite", None).computed_in_int8("2.1") is None
