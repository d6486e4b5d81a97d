"""tegrastats of every JetPack as a Jetson has it: a program on PATH, its true rate, the real agent and its sampler."""

# ruff: noqa: F811 - fixtures of another folder are handed over by their names
from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agents.protocol import BAD_REQUEST, INVALID
from tests.device_agents.conftest import archive, compiled, oldest_python  # noqa: F401 - fixtures
from tests.device_agents.harness import Agent, descendants, eventually, running
from tests.lab.fake_tegrastats import FakeTegrastats

pytestmark = pytest.mark.lab

FIXTURES = Path(__file__).parent.parent / "device_agents" / "fixtures" / "tegrastats"
LINES = {path.stem: path.read_text() for path in FIXTURES.iterdir() if path.stem != "nano_truncated"}
NANO = LINES["nano_jp4_user"]
TOTALS = {
    "agx_orin_jp5": (7.033, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
    "agx_xavier_jp4": (4.222, ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
    "jp7": (9.812, ("VDD_IN",)),
    "nano_jp4_root": (3.352, ("POM_5V_IN",)),
    "nano_jp4_user": (1.266, ("POM_5V_IN",)),
    "orin_nano_jp5": (4.420, ("VDD_IN",)),
    "orin_nano_jp6": (8.870, ("VDD_IN",)),
    "orin_nx_jp6_user": (5.108, ("VDD_IN",)),
    "thor_jp7": (22.950, ("VIN",)),
    "tx1_jp4": (5.218, ("VDD_IN",)),
    "tx2_jp4": (4.610, ("VDD_IN",)),
    "xavier_nx_jp4": (4.310, ("VDD_IN",)),
    "xavier_nx_jp5": (4.689, ("VDD_IN",)),
}
"""Watts and rails that make the module's total, by generation."""

QUICK = {
    "runtime": "null", "warmup_s": 0.01, "block_s": 0.05, "ci_rel": 0.9, "idle_s": 0.05, "min_s": 0.3, "max_s": 0.4,
}  # fmt: skip
LONG = {**QUICK, "min_s": 300, "max_s": 400, "timeout_s": 500}
POWER = {"backend": "tegrastats", "options": {"interval_ms": 10}}


@pytest.fixture
def tegrastats(tmp_path: Path) -> FakeTegrastats:
    return FakeTegrastats(tmp_path / "bin")


@pytest.fixture
def candidate(tmp_path: Path) -> str:
    """A null model in the agent's folder."""
    data = b'{"ms": 2.0}'
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    folder = tmp_path / "agent" / "files"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    return name


@pytest.fixture
def start(
    tegrastats: FakeTegrastats, compiled: Callable[[str], Path], tmp_path: Path
) -> Iterator[Callable[[str], Agent]]:
    """Start the agent with that tegrastats first on its PATH by ``start(python)``."""
    environment = {"PATH": f"{tegrastats.folder}:{os.environ['PATH']}"}
    started: list[Agent] = []

    def start(python: str) -> Agent:
        started.append(Agent([python, str(compiled(python)), "--dir", str(tmp_path / "agent")], environment))
        return started[-1]

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start: Callable[[str], Agent], oldest_python: str) -> Agent:
    """The agent under the oldest Python."""
    return start(oldest_python)


def test_every_generation_is_played() -> None:
    assert set(TOTALS) == set(LINES)


@pytest.mark.parametrize("is_jetpack_4", [True, False], ids=["JetPack 4, Python 3.6", "later"])
def test_the_module_s_power_is_read_in_every_generation_at_the_rate_that_was_asked_for(
    start: Callable[[str], Agent], oldest_python: str, candidate: str, tegrastats: FakeTegrastats, is_jetpack_4: bool
) -> None:
    agent = start(oldest_python if is_jetpack_4 else sys.executable)
    for generation, (watts, rails) in TOTALS.items():
        if ("_jp4" in generation) != is_jetpack_4:
            continue
        tegrastats.plays(LINES[generation], rails)

        power = agent.result("measure", candidate=candidate, power=POWER, **QUICK)["power"]

        assert set(power["w"]) <= {round(watts + 0.041 * step, 6) for step in range(4)}, generation
        assert len(set(power["w"])) > 1, "a busy machine reads several lines at once, but not always the same"
        assert (power["source"], power["scope"], power["estimated"]) == ("tegrastats", "module", False)
        assert (tegrastats.interval_ms, power["interval_s"]) == (10, 0.01)
        assert not any(map(running, tegrastats.pids()))


def test_lines_that_are_cut_off_cost_one_sample_each(agent: Agent, candidate: str, tegrastats: FakeTegrastats) -> None:
    tegrastats.plays(NANO, ("POM_5V_IN",), step_mw=0, cut_every=5)

    power = agent.result("measure", candidate=candidate, power=POWER, **QUICK)["power"]

    assert set(power["w"]) == {1.266}
    assert max(np.diff(power["t_s"])) >= 0.015


def test_a_part_that_reads_above_its_input_for_one_conversion_costs_one_sample(
    agent: Agent, candidate: str, tegrastats: FakeTegrastats
) -> None:
    """As on an Orin Nano whose rails are converted one after the other while the load rises."""
    tegrastats.plays(LINES["orin_nano_jp6"], ("VDD_IN",), step_mw=0, odd_every=5, odd_mw=-8000)

    power = agent.result("measure", candidate=candidate, power=POWER, **QUICK)["power"]

    assert set(power["w"]) == {8.87}
    assert 1 <= power["dropped"] < len(power["w"])


def test_a_tegrastats_that_dies_once_leaves_a_gap_and_no_wrong_value(
    agent: Agent, candidate: str, tegrastats: FakeTegrastats
) -> None:
    """It breaks off in mid-number, as a killed program does; the next one goes on."""
    tegrastats.plays(NANO, ("POM_5V_IN",), dies_after=20, later_mw=5000)

    power = agent.result("measure", candidate=candidate, power=POWER, **{**QUICK, "min_s": 1, "max_s": 1.1})["power"]

    assert len(tegrastats.pids()) == 2
    first, second = ({round(watts + 0.041 * step, 6) for step in range(4)} for watts in (1.266, 6.266))
    assert set(power["w"]) <= first | second
    assert set(power["w"]) & first
    assert set(power["w"]) & second


def test_a_tegrastats_that_dies_again_ends_the_measurement(
    agent: Agent, candidate: str, tegrastats: FakeTegrastats
) -> None:
    tegrastats.plays(NANO, ("POM_5V_IN",), dies_after=20, deaths=2)

    error = agent.error("measure", candidate=candidate, power=POWER, **LONG)

    assert (error["kind"], "ended by itself, again" in error["message"]) == (INVALID, True)
    assert len(tegrastats.pids()) == 2


def test_a_tegrastats_that_hangs_ends_the_measurement(agent: Agent, candidate: str, tegrastats: FakeTegrastats) -> None:
    tegrastats.plays(NANO, ("POM_5V_IN",), hangs_after=60)

    error = agent.error("measure", candidate=candidate, power=POWER, **LONG)

    assert (error["kind"], "it hangs; reboot the board" in error["message"]) == (INVALID, True)
    assert not any(map(running, tegrastats.pids()))


def test_a_carrier_that_mislabels_its_rails_is_refused_at_once(
    agent: Agent, candidate: str, tegrastats: FakeTegrastats
) -> None:
    tegrastats.plays(NANO.replace("POM_5V_GPU 0/", "POM_5V_GPU 8949/"), ("POM_5V_IN",))

    error = agent.error("measure", candidate=candidate, power=POWER, **LONG)

    assert (error["kind"], "labels its rails wrongly" in error["message"]) == (BAD_REQUEST, True)
    assert "labels its rails wrongly" in agent.result("hello")["sensors"]["tegrastats"]


def test_a_sampler_that_is_killed_takes_its_tegrastats_along(
    agent: Agent, candidate: str, tegrastats: FakeTegrastats
) -> None:
    tegrastats.plays(NANO, ("POM_5V_IN",))
    agent.send("measure", candidate=candidate, power=POWER, **LONG)
    while agent.receive().get("stage") != "measure":
        pass
    sampler = next(pid for pid in descendants(agent.process.pid) if b"sampler" in _words(pid))

    os.kill(sampler, signal.SIGKILL)

    assert not agent.reply()["ok"]
    assert eventually(lambda: not any(map(running, tegrastats.pids())))


def _words(pid: int) -> list[bytes]:
    """The words of its command line; the folders among them may have any name."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
