"""The client with the real agent, as a child process and over real SSH: figures, limits, and every way to lose it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from pipeline import errors
from pipeline.devices import connection
from pipeline.devices.agent_client import OnnxSupport, open_agent
from pipeline.devices.compatibility import CHANNEL_STEPS
from pipeline.devices.host_processor import host_processor
from pipeline.devices.inventory.schema import Power
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.records import Device, MeasureSettings, PowerSettings

QUICK = MeasureSettings(warmup_s=0.05, min_s=0.4, max_s=1.0, block_s=0.02, timeout_s=60.0, max_background_cores=64)


def null_model(**behaviour: Any) -> bytes:
    """A model of the agent's null runtime."""
    return json.dumps({"ms": 1.0, **behaviour}).encode()


@pytest.fixture
def local(tmp_path: Path) -> Device:
    return Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null", measure=QUICK)


def kill_once_measuring(folder: str) -> Callable[[Mapping[str, Any]], None]:
    """Kill the agent that serves ``folder`` at the first sign that it measures."""
    kills: list[int] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event.get("stage") == "measure" and not kills:
            for process in psutil.process_iter(["cmdline"]):
                if process.info["cmdline"] and process.info["cmdline"][-2:] == ["--dir", folder]:
                    kills.append(process.pid)
                    process.kill()

    return on_event


# ------------------------------------------------------------ asking


def test_hello_tells_what_board_it_is(local: Device) -> None:
    with open_agent(local) as agent:
        assert agent.facts.agent_sha256 == zipapp().sha256
        assert agent.facts.memory_mb > 0
        assert "null" in agent.facts.runtimes
        assert agent.telemetry().disk_free_mb
        assert agent.channel_step == CHANNEL_STEPS[agent.facts.simd]
        assert agent.processor == host_processor()


def test_a_measurement_holds_what_the_model_took(local: Device) -> None:
    events: list[Mapping[str, Any]] = []
    with open_agent(local, on_event=events.append) as agent:
        m = agent.measure(null_model(ms=5.0), reference=(null_model(ms=25.0), "onnx"))
        assert m.p50_ms.value >= 5.0
        assert m.ratio is not None
        assert m.ratio.value < 1
        assert m.bytes_sent == len(null_model(ms=5.0)) + len(null_model(ms=25.0)) == agent.bytes_sent
        assert agent.measure(null_model(ms=5.0)).bytes_sent == 0
    assert {e["stage"] for e in events} >= {"measure"}


def test_a_real_network_is_measured_and_answers_as_on_the_host(local: Device) -> None:
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 4]) for n in ("x", "y"))
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 4], [1.0, 2.0, 3.0, 4.0])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    opset = onnx.helper.make_opsetid("", 13)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    inputs = np.arange(12, dtype=np.float32).reshape(3, 4)
    with open_agent(dataclasses.replace(local, runtime="onnxruntime")) as agent:
        assert np.allclose(agent.verify(model, inputs), inputs * [1, 2, 3, 4])
        assert agent.measure(model).runtime.startswith("onnxruntime ")


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [({"refuse": "too new"}, "refused"), ({"crash_after": 3}, "crashed"), ({"fail_after": 3}, "refused")],
)
def test_a_model_that_fails_costs_that_one_measurement(local: Device, behaviour: dict[str, Any], kind: str) -> None:
    with open_agent(local) as agent:
        with pytest.raises(errors.MeasureError, match=kind):
            agent.measure(null_model(**behaviour))
        assert agent.measure(null_model()).inferences > 0


def test_a_model_that_hangs_is_killed_at_its_time_limit(local: Device) -> None:
    with open_agent(local) as agent, pytest.raises(errors.MeasureError, match="timeout"):
        agent.measure(null_model(hang_after=3), settings=dataclasses.replace(QUICK, timeout_s=1.5))


def wants(floats: int) -> bytes:
    """A network of four weights that fills a tensor of so many floats, as a damaged shape does."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, float32, [1, 4]) for name in ("x", "y"))
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["full"], value=helper.make_tensor("one", float32, [1], [1.0])),
        helper.make_node("ReduceMean", ["full"], ["mean"]),
        helper.make_node("Mul", ["x", "mean"], ["y"]),
    ]
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [1], [floats])
    graph = helper.make_graph(nodes, "g", [x], [y], [shape])
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


@pytest.mark.parametrize("floats", [1_500_000_000, 20_000_000_000, 2**61])
def test_a_network_that_asks_for_far_too_much_memory_fails_soon_and_the_next_is_measured(
    local: Device, floats: int
) -> None:
    """6 GB are to be had here and ended at the limit; 80 GB and 2^63 bytes the runtime itself cannot get."""
    settings = dataclasses.replace(QUICK, memory_share=1e9 / psutil.virtual_memory().total)
    device = dataclasses.replace(local, runtime="onnxruntime", measure=settings)
    with open_agent(device) as agent:
        with pytest.raises(errors.MeasureError) as caught:
            agent.measure(wants(floats))
        assert "(timeout)" not in str(caught.value)
        if floats < 2**60:
            assert re.search(
                r"held up to \d+ MB, its limit is 1000 MB \(measure.memory_share: 0\.\d+ of the board's \d+ MB\)",
                str(caught.value),
            )
        assert agent.measure(wants(1000)).inferences > 0


def test_a_file_over_the_device_s_limit_is_refused_before_it_goes_over(local: Device) -> None:
    with open_agent(dataclasses.replace(local, max_upload_mb=0.001)) as agent:
        with pytest.raises(errors.MeasureError, match=r"0\.0 MB, the device accepts 0.001 MB; raise max_upload_mb"):
            agent.measure(null_model(say="x" * 2000))
        assert agent.bytes_sent == 0


def test_a_damaged_file_on_the_device_is_sent_again(local: Device) -> None:
    with open_agent(local) as agent:
        agent.measure(null_model())
        agent.close()
        (file,) = (Path(local.agent_dir) / "files").glob("*.onnx")
        file.write_bytes(b"?" * file.stat().st_size)
        assert agent.measure(null_model()).bytes_sent == len(null_model())


def test_a_runtime_that_is_not_there_is_the_device_s_fault(local: Device) -> None:
    other = dataclasses.replace(local, runtime="nonesuch")
    with open_agent(other) as agent, pytest.raises(errors.AgentError, match="bad_request"):
        agent.measure(null_model())


# ------------------------------------------------------------ limits and sensors


def test_what_the_inventory_pins_beats_what_the_board_reports(local: Device) -> None:
    pinned = dataclasses.replace(local, onnx_max_opset=13, onnx_max_ir=8, channel_step=24)
    with open_agent(pinned) as agent:
        assert (agent.onnx_support, agent.channel_step) == (OnnxSupport(13, 8), 24)


def test_auto_takes_a_sensor_that_can_be_read_or_none(local: Device) -> None:
    with open_agent(dataclasses.replace(local, power=PowerSettings(backend="auto"))) as agent:
        usable = {n for n, state in agent.facts.sensors.items() if state == "ok"}
        assert agent.power_backend in usable
        for sensors, expected in (
            ({"ina219": "no", "rapl": "ok", "null": "ok"}, "rapl"),
            ({"rapl": "no", "null": "ok"}, "null"),
        ):
            agent.facts = dataclasses.replace(agent.facts, sensors=sensors)
            assert agent.power_backend == expected
            assert (agent.settings_for(QUICK).block_s >= 1.0) == (expected == "rapl")


def test_every_sensor_option_that_the_inventory_types_is_one_that_a_sensor_has() -> None:
    from device_agents import plugins

    sensors = [plugins.load("device_agents.power", n) for n in plugins.names("device_agents.power")]
    for option in set(Power.model_fields) - {"backend", "options"}:
        assert [
            s
            for s in sensors
            if s.__name__ != "device_agents.power.null" and "unknown option" not in s.check({option: 1})
        ]


# ------------------------------------------------------------ losing it


def test_an_agent_killed_in_mid_measurement_is_started_again_and_the_measurement_made(
    local: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with open_agent(local, on_event=kill_once_measuring(local.agent_dir)) as agent:
        assert agent.measure(null_model()).inferences > 0
    assert "the session was lost" in caplog.text
    assert "trying again in 0.5 s (1 of 2)" in caplog.text


def test_an_agent_that_is_lost_every_time_ends_in_a_clear_error(local: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.01)
    broken = dataclasses.replace(local, python="/bin/false")
    with pytest.raises(errors.SessionLostError, match="here: the session was lost"):
        open_agent(broken)


@pytest.mark.sshd
def test_over_ssh_an_agent_killed_in_mid_measurement_is_started_again(sshd: Any) -> None:
    device = sshd.device()
    with open_agent(device, on_event=kill_once_measuring(device.agent_dir)) as agent:
        assert agent.measure(null_model()).inferences > 0


@pytest.mark.sshd
def test_over_ssh_a_connection_cut_in_mid_upload_is_made_again_and_nothing_is_lost(sshd: Any, start_proxy: Any) -> None:
    proxy = start_proxy(sshd.port, 2_000_000)
    sshd.trust(proxy.port)
    device = sshd.device(address=sshd.address(port=proxy.port))
    with open_agent(device) as agent:
        big = null_model(pad="x" * 4_000_000)
        assert agent.measure(big).bytes_sent == len(big)
    assert proxy.cuts == 1
    assert not [f for f in (Path(device.agent_dir) / "files").glob("*.onnx") if f.stat().st_size != len(big)]


@pytest.mark.sshd
def test_over_ssh_an_unreachable_board_is_tried_again_as_often_as_the_inventory_says(
    sshd: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.01)
    sshd.stop()
    with pytest.raises(errors.UnreachableError):
        open_agent(sshd.device(address=sshd.address(retries=2)))
    assert caplog.text.count("trying again") == 2


@pytest.mark.sshd
def test_over_ssh_wrong_trust_is_not_tried_again(sshd: Any, caplog: pytest.LogCaptureFixture) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(errors.HostKeyUnknownError):
        open_agent(sshd.device())
    assert "trying again" not in caplog.text
