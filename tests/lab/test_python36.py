"""The agent on a Jetson Nano's Python and runtime: CPython 3.6 with onnxruntime 1.10.0 and numpy 1.19.5."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.deployment.push import push, roll_back
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.errors import ExportError, MeasureError
from pipeline.evaluation.device_bench import require_int8
from pipeline.export.onnx.exporter import answers, export, require_loadable
from pipeline.export.onnx.skeleton import skeleton
from pipeline.export.quantization.host_model import HostModel
from pipeline.export.quantization.quantize import calibrate, quantize
from pipeline.records import Device, MeasureSettings, OnnxSupport
from tests.deployments import bundle

pytestmark = pytest.mark.lab

NANO = OnnxSupport(15, 8)
SHORT = MeasureSettings(warmup_s=0.05, min_s=0.2, max_s=1.0, block_s=0.02, timeout_s=60.0, max_background_cores=64)


@pytest.fixture
def agent(python36: str, tmp_path: Path) -> Iterator[Agent]:
    nano = Device(name="nano", kind="local", python=python36, agent_dir=str(tmp_path / "agent"), measure=SHORT)
    with open_agent(nano) as agent:
        yield agent


@pytest.fixture
def model(agent: Agent, network: torch.nn.Module, digits: torch.Tensor) -> bytes:
    return export(network, digits, agent.onnx_support)


def test_it_tells_its_python_and_runtime_and_the_limits_follow(agent: Agent) -> None:
    assert agent.facts.python.startswith("3.6.")
    assert agent.facts.runtimes["onnxruntime"] == "1.10.0"
    assert agent.onnx_support == NANO


def test_a_whole_file_and_its_skeleton_are_measured(agent: Agent, model: bytes) -> None:
    whole = agent.measure(model, "onnx", reference=(model, "onnx"))
    weightless = agent.measure(skeleton(model), "skeleton", reference=(model, "onnx"))
    for measured in (whole, weightless):
        assert measured.runtime == "onnxruntime 1.10.0"
        assert measured.inferences > 0
        assert measured.p50_ms.value > 0
        assert measured.ratio is not None
    assert (whole.bytes_sent, weightless.bytes_sent) == (len(model), len(skeleton(model)))


def test_its_answers_are_the_host_s_within_a_ten_thousandth(
    agent: Agent, model: bytes, network: torch.nn.Module, digits: torch.Tensor
) -> None:
    found = agent.verify(model, digits.numpy())
    assert found.shape == (len(digits), 10)
    np.testing.assert_allclose(found, answers(model, digits.numpy()), atol=1e-4)
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(digits).numpy(), atol=1e-4)


def test_the_export_stays_within_the_limits(model: bytes) -> None:
    proto = onnx.load_from_string(model)
    assert proto.ir_version <= NANO.ir
    assert max(opset.version for opset in proto.opset_import) <= NANO.opset
    require_loadable(proto, NANO)


@pytest.mark.parametrize(("opset", "ir"), [(NANO.opset + 1, NANO.ir), (NANO.opset, NANO.ir + 1)])
def test_the_limits_are_the_runtime_s_own(agent: Agent, opset: int, ir: int) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])], [value("y", onnx.TensorProto.FLOAT, [1, 4])],
    )  # fmt: skip
    newer = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir)
    with pytest.raises(ExportError):
        require_loadable(newer, agent.onnx_support)
    with pytest.raises(MeasureError, match="refused"):
        agent.measure(newer.SerializeToString())


def test_of_an_int8_file_convolutions_and_sums_are_fused_and_it_answers_as_here(
    agent: Agent, model: bytes, digits: torch.Tensor
) -> None:
    """This version leaves the global average pooling and the last layer in float, so no pairs are placed there."""
    float_model = onnx.load_from_string(model)
    ranges = calibrate(float_model, digits.numpy())
    made = quantize(float_model, ranges, operators=agent.int8_operators)
    require_loadable(onnx.load_from_string(made.data), NANO)
    measured = agent.measure(made.data, "onnx", reference=(model, "onnx"))
    kinds = {made.placement.graph.nodes[number].op_type for number in made.placement.nodes}
    assert kinds == {"Conv", "Add"}
    assert measured.conditions["int8_operators"] == made.planned == 8
    require_int8(measured, made.planned, "nano")
    whole = quantize(float_model, ranges)
    with pytest.raises(MeasureError, match=r"computes 8 of 10 operators in INT8 .* a newer onnxruntime"):
        require_int8(agent.measure(whole.data, "onnx", reference=(model, "onnx")), whole.planned, "nano")
    found, here = agent.verify(made.data, digits.numpy()), HostModel(made.data).scores(digits.numpy())
    assert (found.argmax(1) == here.argmax(1)).mean() >= 0.9
    assert np.abs(found - here).max() < 0.05 * np.abs(here).max()


def test_a_bundle_s_runtime_library_gives_the_stored_answers(python36: str, tmp_path: Path) -> None:
    """Without Pillow, which that environment has not: the stored inputs are arrays."""
    folder = bundle(tmp_path / "bundle", best=1)
    done = subprocess.run(
        [python36, str(folder / "runtime.py"), "self-test"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["inputs"], found["ok"]) == (4, True)


def test_a_bundle_is_deployed_with_that_python_and_runtime(python36: str, tmp_path: Path) -> None:
    nano = Device(
        name="nano", kind="local", python=python36, agent_dir=str(tmp_path / "agent"), measure=SHORT,
        deploy_dir=str(tmp_path / "board"),
    )  # fmt: skip
    with open_agent(nano) as agent:
        for best in (0, 1):
            pushed = push(bundle(tmp_path / f"bundle{best}", best), agent)
        assert pushed.self_test.difference < 1e-3
        assert pushed.measured is not None
        assert pushed.measured.ratio is not None
        back = roll_back(agent)
    assert back.current is not None
    assert back.current.name.startswith("0001-")
