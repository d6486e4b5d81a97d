"""Files that ask for FP16, as the agent's TensorRT runtime reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from device_agents import skeleton as agents_skeleton
from device_agents.runtimes import tensorrt as agents_tensorrt
from pipeline.errors import ExportError
from pipeline.evaluation.half_precision import InHalfPrecision
from pipeline.export.format import open_format
from pipeline.export.formats.onnx import Onnx
from pipeline.export.fp16_format import PROPERTY, Fp16Onnx, not_asking
from pipeline.export.half_files import onnx_in_half, tflite_in_half
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.records import OnnxSupport
from pipeline.run.engine_timings import timings_on_board
from tests.pipeline.export.tflite.tiny import CONVERTED
from tests.pipeline.export.tflite.tiny import IMAGES as TFLITE_IMAGES
from tests.pipeline.pruning.networks import IMAGES, Residual, traced


@pytest.fixture(scope="module")
def fp16() -> Fp16Onnx:
    parent = open_format("onnx", traced(Residual), IMAGES, support=OnnxSupport(13, 7))
    assert isinstance(parent, Onnx)
    return Fp16Onnx(parent=parent)


def test_the_file_asks_and_is_its_parent_otherwise(fp16: Fp16Onnx, tmp_path: Path) -> None:
    network = traced(Residual)
    file = fp16.file(network)
    (tmp_path / "model.onnx").write_bytes(file)
    assert agents_tensorrt.asked_precision(str(tmp_path / "model.onnx")) == "fp16"
    assert agents_tensorrt.PRECISION == PROPERTY
    assert not_asking(file) == fp16.parent.file(network)
    onnx.checker.check_model(onnx.load_from_string(file))
    np.testing.assert_array_equal(
        fp16.answers(file, IMAGES.numpy()), fp16.parent.answers(not_asking(file), IMAGES.numpy())
    )


def test_what_the_agent_makes_of_its_skeleton_asks_too(fp16: Fp16Onnx, tmp_path: Path) -> None:
    network = traced(Residual)
    made, parent = fp16.skeleton(network), fp16.parent.skeleton(network)
    with (tmp_path / "model.onnx").open("wb") as stream:
        agents_skeleton.expand(agents_skeleton.parse(made.data), stream)
    assert agents_tensorrt.asked_precision(str(tmp_path / "model.onnx")) == "fp16"
    assert made.size_bytes == len(fp16.file(network))
    assert made.structure == f"{parent.structure}-fp16"


def test_half_precision_on_this_machine_rounds_and_leaves_the_network_as_it_is() -> None:
    network = traced(Residual)
    with torch.inference_mode():
        before, half = network(IMAGES), InHalfPrecision(network).eval()(IMAGES)
        after = network(IMAGES)
    assert half.dtype == torch.float32
    assert torch.equal(before, after)
    error = float((half - before).abs().max() / before.abs().max())
    assert 0 < error < 0.02


def test_an_operator_that_torch_has_in_float32_alone_is_an_error_with_its_reason() -> None:
    class Mixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x.flatten(1), torch.ones(2, 8, dtype=torch.float32))

    with pytest.raises(ExportError, match="torch does not compute the network in fp16"):
        InHalfPrecision(Mixed())(torch.ones(1, 8))


def test_files_in_half_precision_are_half_as_large_and_answer_alike(fp16: Fp16Onnx) -> None:
    whole, lite = fp16.parent.file(traced(Residual)), CONVERTED.read_bytes()
    for file, half, images in (
        (whole, onnx_in_half(whole), IMAGES.numpy()),
        (lite, tflite_in_half(lite), TFLITE_IMAGES.numpy()),
    ):
        before, after = open_on_host(file)(images), open_on_host(half)(images)
        assert len(half) < 0.8 * len(file)  # of networks this small, much is names
        assert 0 < np.abs(after - before).max() < 0.02 * np.abs(before).max()


def test_the_times_of_layers_lie_where_the_agent_puts_them() -> None:
    conditions = {"gpu": "NVIDIA Tegra X1 sm_53", "tensorrt": "8.2.1.8", "power_mode": "0", "workspace_mb": 256}
    found = timings_on_board(conditions, "~/.cache/pipeline-agent")
    assert found == agents_tensorrt.timing_path("~/.cache/pipeline-agent/files/any.onnx", conditions)
    assert timings_on_board({"gpu": ["nonsense"], "tensorrt": "8", "power_mode": "0"}, "~/agent") is None
    assert timings_on_board({}, "~/agent") is None
