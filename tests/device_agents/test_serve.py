"""The agent end to end: a real zipapp in a real process, under this Python and under Python 3.6."""

import base64
import io
import json
import os
import signal
import sys
import threading
import time
import zlib
from dataclasses import fields
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agents import protocol
from pipeline.devices.agent_client import Telemetry
from pipeline.records import DeviceFacts
from tests.device_agents.harness import ANSWER_WITHIN_S, Agent, descendants, eventually, running

QUICK = {"warmup_s": 0.01, "min_s": 0.05, "max_s": 30, "block_s": 0.01, "ci_rel": 0.5, "idle_s": 0.2, "timeout_s": 60}
NULL = {"runtime": "null", **QUICK}
LONG = {"min_s": 10 * ANSWER_WITHIN_S, "max_s": 10 * ANSWER_WITHIN_S, "timeout_s": 20 * ANSWER_WITHIN_S}


@pytest.fixture
def measuring(agent, put):
    """An agent in the middle of a long measurement, and its worker's pid."""
    model = put({"ms": 1.0, "leave": True})
    agent.send("measure", candidate=model, **{**NULL, **LONG})
    while agent.receive().get("stage") != "measure":
        pass
    family = descendants(agent.process.pid)
    assert len(family) == 2  # the worker, and the process that the model left running
    return agent, family


# ---------------------------------------------------------------- hello and telemetry


def test_hello_answers_with_every_fact_of_the_device(each_agent):
    result = each_agent.result("hello")

    assert set(result) == {field.name for field in fields(DeviceFacts)}
    DeviceFacts(**result)
    assert result["runtimes"]["null"] == str(protocol.VERSION)
    assert result["sensors"]["null"] == "ok"
    assert len(result["agent_sha256"]) == 64


def test_hello_names_onnxruntime_without_importing_it_or_what_only_later_requests_need(archive, tmp_path):
    agent = Agent([sys.executable, "-X", "importtime", str(archive), "--dir", str(tmp_path)])
    agent.send("hello")
    result = agent.reply()["result"]
    agent.process.stdin.close()
    imported = {line.rpartition("|")[2].strip() for line in agent.process.stderr.read().decode().splitlines()}
    agent.close()

    assert result["runtimes"]["onnxruntime"] == onnxruntime.__version__
    assert {"device_agents.serve", "device_agents.hello"} <= imported
    slow = {"onnxruntime", "numpy", "subprocess", "device_agents.work", "device_agents.deployment"}
    assert imported & slow == set()


def test_hello_checks_the_sensor_with_the_options_it_will_be_used_with(agent):
    result = agent.result("hello", power={"backend": "ina219", "options": {"bus": 251}})

    assert "/dev/i2c-251 is missing" in result["sensors"]["ina219"]


def test_the_zipapp_is_small(archive):
    assert archive.stat().st_size < 140_000


def test_it_runs_from_a_folder_too_and_then_has_no_digest(tmp_path, put):
    root = str(Path(protocol.__file__).parent.parent)
    agent = Agent([sys.executable, "-m", "device_agents", "--dir", str(tmp_path)], {"PYTHONPATH": root})

    assert agent.result("hello")["agent_sha256"] == ""
    assert agent.result("measure", candidate=put({}), **NULL)["runtime"] == f"null {protocol.VERSION}"
    assert agent.close() == 0


def test_telemetry_is_told_on_request(agent):
    result = agent.result("telemetry")

    assert set(result) == {field.name for field in fields(Telemetry)}
    assert result["disk_free_mb"] > 0


# ---------------------------------------------------------------- measure


def test_a_measurement_gives_raw_samples_and_progress(each_agent, put):
    agent = each_agent
    candidate, reference = put({"ms": 1.0}), put({"ms": 2.0})

    result = agent.result("measure", candidate=candidate, reference=reference, **NULL)

    assert {event["stage"] for event in agent.events} == {"warm-up", "measure"}
    for name, least in (("candidate", 1.0), ("reference", 2.0)):
        blocks = result[name]["blocks"]
        assert len(blocks) >= 5
        assert min(min(block["ms"]) for block in blocks) >= least
    assert result["candidate"]["input"] == {"name": "input", "shape": [1], "dtype": "float32"}
    assert set(result["before"]) == set(result["after"]) == set(agent.result("telemetry"))
    assert descendants(agent.process.pid) == set()


def test_a_runtime_that_prints_does_not_disturb_the_wire(agent, put):
    noise = '{"v":1,"ok":false}\n' * 3

    result = agent.result("measure", candidate=put({"say": noise, "ms": 0.2}), **NULL)

    assert result["runtime"] == f"null {protocol.VERSION}"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"crash_after": 20}, "was killed by SIGSEGV"),
        ({"exit_after": 20}, "ended with exit code 7"),
    ],
)
def test_a_runtime_that_dies_costs_one_request(agent, put, behaviour, words):
    error = agent.error("measure", candidate=put({"ms": 0.1, "leave": True, **behaviour}), **NULL)

    assert error["kind"] == protocol.CRASHED
    assert words in error["message"]
    assert descendants(agent.process.pid) == set()
    assert agent.result("measure", candidate=put({}), **NULL)


def test_a_crash_is_told_with_the_runtime_s_last_words(agent, put):
    error = agent.error("measure", candidate=put({"crash_after": 3, "say": "illegal tile\n"}), **NULL)

    assert "SIGSEGV: illegal tile | illegal tile" in error["message"]


def test_a_runtime_that_hangs_is_killed_with_all_its_processes(each_agent, put):
    agent = each_agent
    agent.send("measure", candidate=put({"ms": 0.1, "leave": True, "hang_after": 30}), **{**NULL, "timeout_s": 1.0})
    assert eventually(lambda: len(descendants(agent.process.pid)) == 2)
    family = descendants(agent.process.pid)

    error = agent.reply()["error"]

    assert error["kind"] == protocol.TIMEOUT
    assert "1 s" in error["message"]
    assert eventually(lambda: not any(map(running, family)))
    assert agent.result("telemetry")


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ({"refuse": "opset 99"}, protocol.REFUSED, "opset 99"),
        ({"outputs": [float("nan")]}, protocol.INVALID, "not finite"),
    ],
)
def test_a_candidate_that_cannot_be_measured_says_why(agent, put, behaviour, kind, words):
    error = agent.error("measure", candidate=put(behaviour), **NULL)

    assert error["kind"] == kind
    assert words in error["message"]


def test_a_file_that_is_missing_or_broken_has_to_be_sent_again(agent, put, tmp_path):
    name = put({"ms": 1.0})
    (tmp_path / "files" / name).write_bytes(b"{}")

    for expected in ("send it again", "missing"):
        error = agent.error("measure", candidate=name, **NULL)
        assert error["kind"] == protocol.CORRUPT
        assert expected in error["message"]


# ---------------------------------------------------------------- the line


def test_a_line_closed_in_mid_measurement_leaves_no_process(measuring):
    agent, family = measuring

    assert agent.close() == 0

    assert eventually(lambda: not any(map(running, family)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_an_agent_killed_in_mid_measurement_takes_its_worker_along(measuring, number):
    agent, family = measuring
    worker = next(pid for pid in family if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())

    agent.process.send_signal(number)
    agent.process.wait(ANSWER_WITHIN_S)

    assert eventually(lambda: not running(worker))
    for pid in family - {worker}:
        os.kill(pid, signal.SIGKILL)  # what a killed runtime itself had left running is beyond its reach


def test_a_worker_killed_from_outside_is_a_crash_and_the_agent_lives_on(measuring):
    agent, family = measuring
    worker = next(pid for pid in family if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())

    os.kill(worker, signal.SIGKILL)
    error = agent.reply()["error"]

    assert (error["kind"], "SIGKILL" in error["message"]) == (protocol.CRASHED, True)
    assert eventually(lambda: not any(map(running, family)))
    assert agent.result("telemetry")


def test_ctrl_c_is_the_caller_s_matter(agent):
    agent.result("telemetry")
    agent.process.send_signal(signal.SIGINT)

    assert agent.result("telemetry")
    assert agent.close() == 0


def test_a_garbage_line_is_answered_and_the_agent_lives_on(each_agent):
    for line in (b"", b"garbage", b"[]", b"\xff\x00", b'{"v":1', b"x" * 100_000):
        each_agent.send_line(line)
        reply = each_agent.reply()

        assert (reply["ok"], reply["error"]["kind"], reply["id"]) == (False, protocol.BAD_REQUEST, None), line
        assert each_agent.result("telemetry")


def test_another_version_is_refused_by_number(agent):
    agent.send_line(b'{"v": 1, "id": 5, "verb": "hello"}')

    assert f"version 1, expected {protocol.VERSION}" in agent.reply()["error"]["message"]


def test_a_bad_request_says_what_would_be_right(agent):
    for asked, words in (
        ({"verb": "reboot"}, "unknown verb 'reboot'; known: deployment, hello, hold, measure, meter, offer, "),
        ({"verb": None}, "unknown verb None"),
        ({"verb": "measure"}, "'candidate' is missing"),
        ({"verb": "measure", "candidate": "../x"}, "expected <sha256>"),
        ({"verb": "telemetry", "more": 1}, "unknown argument 'more'"),
    ):
        error = agent.error(**asked)

        assert error["kind"] == protocol.BAD_REQUEST
        assert words in error["message"]


def test_requests_sent_ahead_are_answered_in_order(agent, put):
    model = put({"ms": 1.0})
    numbers = [agent.send("measure", candidate=model, **NULL), agent.send("telemetry"), agent.send("hello")]

    assert [agent.reply()["id"] for _ in numbers] == numbers


# ---------------------------------------------------------------- power


@pytest.fixture
def counter(tmp_path):
    """A processor's energy counter that runs at 3 W, with a wrap; returns the sensor's settings."""
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("3000000\n")
    stop = threading.Event()

    def count():
        start = time.monotonic()
        while not stop.is_set():
            part = zone / "part"
            part.write_text(f"{int((time.monotonic() - start) * 3e6 + 1.5e6) % 3_000_000}\n")
            part.replace(zone / "energy_uj")
            stop.wait(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    assert eventually((zone / "energy_uj").exists)
    yield {"backend": "rapl", "options": {"root": str(zone.parent), "interval_ms": 20}}
    stop.set()
    thread.join()


def test_power_is_sampled_through_idle_and_work_on_one_clock(agent, put, counter):
    result = agent.result("measure", candidate=put({"ms": 1.0}), power=counter, **{**NULL, "min_s": 0.3})
    power = result["power"]

    assert (power["source"], power["scope"], power["interval_s"]) == ("rapl", "package", 0.02)
    assert len(power["t_s"]) == len(power["w"])
    assert power["t_s"] == sorted(power["t_s"])
    spans = numpy.diff(power["t_s"])
    assert numpy.dot(spans, power["w"][1:]) / spans.sum() == pytest.approx(3.0, rel=0.3)  # whoever was late when
    for begin, end in [*result["idle"], (result["candidate"]["blocks"][0]["start_s"],) * 2]:
        assert power["t_s"][0] <= begin <= end + 0.1
        assert power["t_s"][-1] >= end - 0.1
    assert len(result["idle"]) == 2
    assert descendants(agent.process.pid) == set()


def test_a_sensor_that_is_not_there_is_told_before_anything_runs(agent, put):
    error = agent.error("measure", candidate=put({}), power={"backend": "ina219", "options": {"bus": 251}}, **NULL)

    assert (error["kind"], "/dev/i2c-251 is missing" in error["message"]) == (protocol.BAD_REQUEST, True)


@pytest.mark.parametrize("backend", ["tegra", "null.x"])
def test_an_unknown_sensor_is_named(agent, put, backend):
    error = agent.error("measure", candidate=put({}), power={"backend": backend}, **NULL)

    assert (error["kind"], "unknown power plugin" in error["message"]) == (protocol.BAD_REQUEST, True)


def tegrastats(tmp_path, script):
    path = tmp_path / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"backend": "tegrastats", "options": {"command": str(path), "interval_ms": 10}}


def test_tegrastats_is_read_and_gone_at_the_end(agent, put, tmp_path):
    power = tegrastats(tmp_path, "while sleep 0.01; do echo POM_5V_IN 2100/2000 POM_5V_GPU 300/300; done")

    result = agent.result("measure", candidate=put({"ms": 1.0}), power=power, **NULL)

    assert set(result["power"]["w"]) == {2.1}
    assert (result["power"]["source"], result["power"]["scope"]) == ("tegrastats", "module")
    assert eventually(lambda: descendants(agent.process.pid) == set())


def test_a_sensor_that_dies_meanwhile_ends_the_measurement_at_once(agent, put, tmp_path):
    power = tegrastats(tmp_path, "echo POM_5V_IN 2100/2000; sleep 0.3; echo POM_5V_IN 2100/2000; exit 1")

    error = agent.error("measure", candidate=put({"ms": 1.0}), power=power, **{**NULL, **LONG})

    assert (error["kind"], "ended by itself" in error["message"]) == (protocol.INVALID, True)
    assert descendants(agent.process.pid) == set()


def test_a_line_closed_while_power_is_sampled_leaves_no_process(start, put, tmp_path):
    power = tegrastats(tmp_path, "while sleep 0.01; do echo POM_5V_IN 2100/2000; done")
    agent = start()
    agent.send("measure", candidate=put({"ms": 1.0}), power=power, **{**NULL, **LONG})
    while agent.receive().get("stage") != "measure":
        pass
    family = descendants(agent.process.pid)

    assert agent.close() == 0
    assert len(family) >= 3  # worker, sampler, tegrastats
    assert eventually(lambda: not any(map(running, family)))


# ---------------------------------------------------------------- onnxruntime and verify


def npy(array):
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


@pytest.fixture
def network(put):
    """A linear layer, 4 → 3, for a batch of a fixed size or any; returns its file's name and its weights."""

    def network(batch):
        weights = numpy.random.default_rng(0).normal(size=(4, 3)).astype(numpy.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return put(model.SerializeToString(), "onnx"), weights

    return network


def test_a_network_is_measured_by_onnxruntime(start, network):
    result = start().result("measure", candidate=network(1)[0], reference=None, runtime="onnxruntime", **QUICK)

    assert result["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert result["candidate"]["input"] == {"name": "x", "shape": [1, 4], "dtype": "float32"}
    assert sum(len(block["ms"]) for block in result["candidate"]["blocks"]) >= 100


def test_a_skeleton_is_measured_as_the_network_that_it_stands_for(start, put, network, tmp_path):
    name, weights = network(1)
    whole = (tmp_path / "files" / name).read_bytes()
    offset = whole.index(weights.tobytes())
    header = {"size": len(whole), "fill": [[offset, weights.nbytes, 0.0, 1.0]]}
    rest = whole[:offset] + whole[offset + weights.nbytes :]
    weightless = put(zlib.compress(json.dumps(header).encode() + b"\n" + rest), "skeleton")

    result = start().result("measure", candidate=weightless, reference=name, **QUICK)

    assert result["candidate"]["input"] == result["reference"]["input"]


def test_a_file_that_onnxruntime_will_not_load_is_refused_with_its_reason(start, put):
    error = start().error("measure", candidate=put(b"no network", "onnx"), **QUICK)

    assert error["kind"] == protocol.REFUSED
    assert "protobuf" in error["message"].lower()


@pytest.mark.parametrize(("batch", "images"), [(1, 70), (4, 1), (4, 70), ("n", 1), ("n", 70)])
def test_real_images_give_the_network_s_answers(start, put, network, batch, images):
    name, weights = network(batch)
    inputs = numpy.random.default_rng(1).normal(size=(images, 4)).astype(numpy.float32)

    result = start().result("verify", candidate=name, inputs=put(npy(inputs), "npy"), runtime="onnxruntime")
    outputs = numpy.frombuffer(base64.b64decode(result["outputs"]), "<f4").reshape(result["shape"])

    assert outputs == pytest.approx(inputs @ weights, abs=1e-5)


def test_images_of_a_wrong_shape_are_refused(start, put, network):
    inputs = put(npy(numpy.ones((2, 5), dtype=numpy.float32)), "npy")

    assert start().error("verify", candidate=network(1)[0], inputs=inputs)["kind"] == protocol.REFUSED


def test_the_null_runtime_verifies_without_numpy(agent, put):
    inputs = put(npy(numpy.ones((40, 2), dtype=numpy.float32)), "npy")

    result = agent.result("verify", candidate=put({"outputs": [0.5, 2.0]}), inputs=inputs, runtime="null")

    assert result["shape"] == [40, 2]
    assert base64.b64decode(result["outputs"]) == numpy.array([[0.5, 2.0]] * 40, dtype="<f4").tobytes()


@pytest.mark.parametrize(("answer", "kind"), [(float("nan"), protocol.INVALID), (float("inf"), protocol.INVALID)])
def test_answers_that_are_not_finite_are_invalid(agent, put, answer, kind):
    inputs = put(npy(numpy.ones((1, 2), dtype=numpy.float32)), "npy")

    assert agent.error("verify", candidate=put({"outputs": [answer]}), inputs=inputs, runtime="null")["kind"] == kind


def test_inputs_that_are_no_images_are_the_request_s_fault(agent, put):
    error = agent.error("verify", candidate=put({}), inputs=put(b"GIF89a..", "npy"), runtime="null")

    assert error["kind"] == protocol.BAD_REQUEST


def test_the_folder_stays_under_its_quota(start, put, tmp_path):
    old = put(b"o" * 900_000, "onnx")
    os.utime(tmp_path / "files" / old, (1, 1))
    put(b"n" * 900_000, "onnx")

    start(sys.executable, "--quota-mb", "1").result("measure", candidate=put({}), **NULL)

    assert not (tmp_path / "files" / old).exists()


def test_onnx_models_for_tests_are_ones_that_old_runtimes_load(network, tmp_path):
    model = onnx.load(tmp_path / "files" / network(1)[0])

    assert (model.ir_version, model.opset_import[0].version) == (8, 13)
