"""What a board can load follows from the runtime's version."""

from __future__ import annotations

import pytest

from pipeline.devices import agent_plugins
from pipeline.devices.compatibility import OnnxLimits, limits_of


@pytest.mark.parametrize(
    ("version", "limits"),
    [
        ("1.10.0", OnnxLimits(15, 8)),
        ("1.14.1", OnnxLimits(18, 8)),
        ("1.19.2", OnnxLimits(21, 10)),
        ("1.31.1", OnnxLimits(21, 10)),
        ("2.0", OnnxLimits(21, 10)),
        ("1.2.0", OnnxLimits(13, 7)),
        ("odd", OnnxLimits(13, 7)),
    ],
)
def test_onnx_limits_follow_the_runtime_s_version(version: str, limits: OnnxLimits) -> None:
    assert limits_of(version, agent_plugins.runtime_named("onnxruntime", None).newest_onnx()) == limits


def test_a_runtime_that_does_not_say_what_it_loads_gets_the_oldest() -> None:
    assert limits_of("10.3.0", agent_plugins.runtime_named("tensorrt", None).newest_onnx()) == OnnxLimits(13, 7)
