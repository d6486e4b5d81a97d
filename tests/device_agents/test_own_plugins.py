"""Sensors and runtimes of the user's own in a real agent: what this Python cannot import costs that plugin alone."""

import sys

import pytest

from device_agents import protocol
from pipeline.devices.sessions.agent_zipapp import zipapp
from tests.device_agents.harness import Agent

NULL = {"runtime": "null", "warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5, "idle_s": 0.1}
SENSOR = """
class Meter:
    source, scope, interval_s = "mine", "board", 0.001
    def read_w(self):
        import time
        time.sleep(0.001)
        return 2.5
    def close(self): pass
def check(options): return "ok"
def open(options): return Meter()
"""
RUNTIME = "from device_agents.runtimes.null import installed, version, load\n"


@pytest.fixture
def start_with(tmp_path):
    """Start an agent that holds these files beside its own; at the end it has to go in peace."""
    started = []

    def start(python: str, **files: str) -> Agent:
        folders = {"sensor": "power", "runtime": "runtimes"}
        packed = [(f"{folders[name.partition('_')[0]]}/{name}.py", text.encode()) for name, text in files.items()]
        app = zipapp(tuple(packed))
        (tmp_path / app.name).write_bytes(app.content)
        started.append(Agent(app.command(python, str(tmp_path))))
        return started[-1]

    yield start
    assert [agent.close() for agent in started] == [0] * len(started)


def test_a_sensor_and_a_runtime_of_ones_own_are_used_together(start_with, python, put):
    agent = start_with(python, sensor_mine=SENSOR, runtime_mine=RUNTIME)
    facts = agent.result("hello")
    assert (facts["sensors"]["sensor_mine"], facts["runtimes"]["runtime_mine"]) == ("ok", str(protocol.VERSION))

    wanted = {**NULL, "runtime": "runtime_mine", "power": {"backend": "sensor_mine"}}
    result = agent.result("measure", candidate=put({"ms": 1.0}), **wanted)

    assert result["runtime"] == f"runtime_mine {protocol.VERSION}"
    assert set(result["power"]["w"]) == {2.5}


def test_a_sensor_that_says_no_preference_comes_after_those_that_ship_and_before_null(start_with):
    names = list(start_with(sys.executable, sensor_mine=SENSOR).result("hello")["sensors"])
    assert names[-2:] == ["sensor_mine", "null"]


BROKEN = {
    "unread": ("def check(options:\n", "SyntaxError"),
    "newer": ("from __future__ import of_tomorrow\n", "SyntaxError"),
    "lonely": ("import nonesuch\n", "No module named 'nonesuch'"),
    "leaving": ("raise SystemExit('not here')\n", "SystemExit: not here"),
    "failing": ("1 / 0\n", "ZeroDivisionError"),
}


def test_files_that_cannot_be_imported_are_named_and_everything_else_works(start_with, python, put):
    files = {f"{kind}_{name}": text for kind in ("sensor", "runtime") for name, (text, _) in BROKEN.items()}
    agent = start_with(python, **files)
    facts = agent.result("hello")

    for name, (_, why) in BROKEN.items():
        asked = ({"runtime": f"runtime_{name}"}, {"power": {"backend": f"sensor_{name}"}})
        of_runtime, of_sensor = (agent.error("measure", candidate=put({}), **{**NULL, **one}) for one in asked)
        for said, file in (
            (facts["broken_runtimes"][f"runtime_{name}"], f"runtimes/runtime_{name}.py"),
            (facts["sensors"][f"sensor_{name}"], f"power/sensor_{name}.py"),
            (of_runtime["message"], f"runtimes/runtime_{name}.py"),
            (of_sensor["message"], f"power/sensor_{name}.py"),
        ):
            assert f"{file} cannot be imported by this board's Python 3." in said
            assert why in said
            assert "; write it for that Python, with " in said
    assert facts["sensors"]["null"] == "ok"
    assert agent.result("measure", candidate=put({"ms": 1.0}), **NULL)["runtime"] == f"null {protocol.VERSION}"


def test_a_grammar_newer_than_the_board_s_python_is_told_by_that_board_alone(start_with, python, put):
    agent = start_with(python, runtime_mine=f"{RUNTIME}if (digits := 3):\n    pass\n")
    facts = agent.result("hello")

    if python == sys.executable:
        assert (facts["runtimes"]["runtime_mine"], facts["broken_runtimes"]) == (str(protocol.VERSION), {})
    else:
        assert "this board's Python 3.6." in facts["broken_runtimes"]["runtime_mine"]
        assert "SyntaxError: invalid syntax (runtime_mine.py, line 2)" in facts["broken_runtimes"]["runtime_mine"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def check(options): pass\n", "power/sensor_mine.py: check returned None, expected a text"),
        (
            "def check(options): return options['bus']\n",
            "power/sensor_mine.py fails in check: KeyError: 'bus'; fix that",
        ),
        ("", "power/sensor_mine.py fails in check: AttributeError"),
    ],
)
def test_a_check_that_fails_is_told_as_the_sensor_s_state(start_with, text, said):
    assert said in start_with(sys.executable, sensor_mine=text).result("hello")["sensors"]["sensor_mine"]


def test_a_sensor_that_wants_more_than_the_standard_library_is_told_so(start_with, put):
    """Its process has no site-packages, and so is small beside what is measured."""
    agent = start_with(sys.executable, sensor_mine=f"import numpy\n{SENSOR}")
    said = agent.error("measure", candidate=put({"ms": 1.0}), power={"backend": "sensor_mine"}, **NULL)["message"]
    assert "No module named 'numpy'; write it for that Python, with the standard library alone" in said
