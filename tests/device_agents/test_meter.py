"""The verb that tests a meter, through the real sampler and a tegrastats whose power follows the busy processes."""

import os
import sys

import pytest

from device_agents import meter, supervise
from device_agents.arguments import Power
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST
from device_agents.wire import Lines
from tests.device_agents.harness import descendants, eventually, running

TEGRASTATS = """#!{python} -S
import glob, sys, time
while True:
    busy = 0
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f, open(path.replace("cmdline", "stat")) as g:
                mine = g.read().rpartition(")")[2].split()[1] == "{agent}"
                busy += mine and b"while True: pass" in f.read()
        except OSError:
            pass
    print("POM_5V_IN %d/0 POM_5V_GPU 0/0" % (2000 + 700 * busy), flush=True)
    time.sleep(0.02)
"""
"""Its power is 2 W and 0.7 W more for each endless loop among the agent's children."""


@pytest.fixture
def power(tmp_path):
    path = tmp_path / "tegrastats"
    path.write_text(TEGRASTATS.format(python=sys.executable, agent=os.getpid()))
    path.chmod(0o755)
    return Power("tegrastats", {"command": str(path), "interval_ms": 20})


@pytest.fixture
def caller():
    """The agent's line to its caller, and the end that the caller holds."""
    near, far = os.pipe()
    yield Lines(near), far
    os.close(near)
    if far_open(far):
        os.close(far)


def far_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_power_is_read_at_rest_and_under_load(power, caller, tmp_path):
    events = []
    result = meter.run(power, 0.8, 2, str(tmp_path), caller[0], events.append)

    assert set(result["rest"]["w"]) == {2.0}
    assert max(result["load"]["w"]) == 3.4
    assert result["rest"]["end_s"] <= result["load"]["start_s"]
    for phase in (result["rest"], result["load"]):
        assert phase["start_s"] <= phase["t_s"][0] < phase["t_s"][-1] <= phase["end_s"]
        assert len(phase["t_s"]) == len(phase["w"])
        assert phase["v"] is None  # tegrastats tells no voltage
    about = {"source": "tegrastats", "scope": "module", "interval_s": 0.02, "estimated": False}
    assert (result["about"], result["threads"], result["dropped"]) == (about, 2, 0)
    assert {"temperature_c", "throttled"} <= set(result["before"]) & set(result["during"]) & set(result["after"])
    assert [event["stage"] for event in events] == ["rest", "load"]


def test_nothing_is_left_running(power, caller, tmp_path):
    before = descendants(os.getpid())

    meter.run(power, 0.2, 2, str(tmp_path), caller[0], lambda _: None)

    assert descendants(os.getpid()) <= before


def test_a_caller_that_goes_ends_the_load(power, caller, tmp_path):
    lines, far = caller
    started = []
    others = descendants(os.getpid())

    def emit(event):
        if event["stage"] == "load":
            started.extend(descendants(os.getpid()) - others)
            os.close(far)

    with pytest.raises(supervise.CallerGoneError):
        meter.run(power, 0.3, 1, str(tmp_path), lines, emit)
    assert len(started) >= 3  # sampler, tegrastats, load
    assert eventually(lambda: not any(map(running, started)))


def test_without_a_sensor_there_is_nothing_to_test(caller, tmp_path):
    with pytest.raises(AgentError, match="no sensor to test") as caught:
        meter.run(Power(), 0.1, 1, str(tmp_path), caller[0], lambda _: None)

    assert caught.value.kind == BAD_REQUEST


def test_the_agent_answers_the_verb(agent, power):
    """Under each Python; the loads are this agent's children, so the tegrastats above does not see them."""
    result = agent.result("meter", power=power._asdict(), seconds=0.3, threads=1)

    assert set(result["rest"]["w"]) == {2.0}
    assert eventually(lambda: descendants(agent.process.pid) == set())
