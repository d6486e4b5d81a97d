"""The INA219 path as it runs on a Raspberry Pi: the real agent, its sampler's process, ioctl on /dev/i2c-1, a chip."""

# ruff: noqa: F811 - fixtures of another folder are handed over by their names
from __future__ import annotations

import errno
import hashlib
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agents.protocol import BAD_REQUEST, INVALID
from pipeline.measurement.intervals import GAP_CYCLES, PowerTrace
from pipeline.measurement.sensor_quality import meter_report
from tests.device_agents.conftest import archive, compiled, oldest_python, python  # noqa: F401 - fixtures
from tests.device_agents.harness import Agent
from tests.lab import fuse_i2c, i2c_board
from tests.lab.fuse_i2c import I2cFile
from tests.lab.ina219_chip import BUS, CALIBRATION, Ina219Chip

pytestmark = pytest.mark.lab

QUICK = {"runtime": "null", "warmup_s": 0.01, "block_s": 0.05, "ci_rel": 0.5, "idle_s": 0.05}
REST_A, BUSY_A = 0.42, 1.1
ATTEMPTS = 5


def amperes(t: float) -> float:
    """A profile with all that a real one has: rest, bursts, a slow drift and ripple."""
    burst = BUSY_A - REST_A if t % 0.8 < 0.5 else 0.0
    return REST_A + burst + 0.02 * math.sin(t / 3) + 0.03 * math.sin(2 * math.pi * t / 0.21)


def volts(t: float) -> float:
    """A supply of 5.1 V that falls by 0.1 V an ampere."""
    return 5.1 - 0.1 * amperes(t)


@pytest.fixture
def chip() -> Ina219Chip:
    return Ina219Chip(amperes, volts)


@pytest.fixture
def bus(tmp_path: Path, chip: Ina219Chip) -> Iterator[I2cFile]:
    """The device file, with the chip at 0x40."""
    if reason := fuse_i2c.missing():
        pytest.skip(reason)
    with I2cFile(tmp_path / "i2c-1", {0x40: chip}) as file:
        yield file


@pytest.fixture
def on_board(bus: I2cFile, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the command line that runs a program where /dev/i2c-1 is that file."""
    return lambda *program: i2c_board.on_board(tmp_path, bus, *program)


@pytest.fixture
def start(
    on_board: Callable[..., list[str]], compiled: Callable[[str], Path], tmp_path: Path
) -> Iterator[Callable[[str], Agent]]:
    """Start the agent on that board by ``start(python)``."""
    started: list[Agent] = []

    def start(python: str) -> Agent:
        started.append(Agent(on_board(python, str(compiled(python)), "--dir", str(tmp_path / "agent"))))
        return started[-1]

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start: Callable[[str], Agent], oldest_python: str) -> Agent:
    """The agent under the oldest Python."""
    return start(oldest_python)


@pytest.fixture
def candidate(tmp_path: Path) -> str:
    """A null model in the agent's folder."""
    data = b'{"ms": 2.0}'
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    folder = tmp_path / "agent" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def ina219(**options: object) -> dict[str, object]:
    return {"backend": "ina219", "options": options}


def truth_j(start_s: float, end_s: float) -> float:
    t = np.linspace(start_s, end_s, 20_001)
    watts = [volts(x) * amperes(x) for x in t]
    return float(np.trapezoid(watts, t))


def unseen_s(power: dict) -> float:
    """How long in all no value was read though one was due."""
    spans = np.diff(power["t_s"])
    return float(spans[spans > GAP_CYCLES * power["interval_s"]].sum())


def trace(power: dict) -> PowerTrace:
    """The samples, each at the middle of what it covers, as the host places them."""
    return PowerTrace(np.array(power["t_s"]) - power["interval_s"] / 2, np.array(power["w"]))


@pytest.mark.parametrize(
    ("python", "options"),
    [("this python", {}), ("python 3.6", {"averaging": 8, "range_v": 32})],
    indirect=["python"],
    ids=["32 averaged", "8 averaged, 32 V, python 3.6"],
)
def test_the_energy_of_a_scripted_profile_is_found_within_two_percent(
    start: Callable[[str], Agent], python: str, candidate: str, chip: Ina219Chip, options: dict
) -> None:
    agent = start(python)
    for _ in range(ATTEMPTS):
        result = agent.result("measure", candidate=candidate, power=ina219(**options), min_s=1.6, max_s=1.7, **QUICK)
        power, blocks = result["power"], result["candidate"]["blocks"]
        start_s, end_s = blocks[0]["start_s"], blocks[-1]["end_s"]
        if trace(power).gap_s(start_s, end_s) <= GAP_CYCLES * power["interval_s"]:
            break  # else a run would tell of gaps: a busy machine has put the chip or the sampler to sleep

    truth = truth_j(start_s, end_s)
    missed = unseen_s(power) * (max(power["w"]) - min(power["w"]))  # nothing where it was not that busy
    assert trace(power).energy_j(start_s, end_s) == pytest.approx(truth, abs=0.02 * truth + missed)
    assert (power["source"], power["scope"], power["estimated"]) == ("ina219", "board", False)


def test_each_value_follows_the_scripted_current(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    """Every value lies between the least and most power of the time that it covers and of what waiting may add.

    Its conversion ended after the value before was read, which was after the one before that had its time.
    """
    power = agent.result("measure", candidate=candidate, power=ina219(), min_s=1.2, max_s=1.3, **QUICK)["power"]

    for earlier, t, w in zip(power["t_s"], power["t_s"][2:], power["w"][2:], strict=False):
        covered = [volts(x) * amperes(x) for x in np.linspace(earlier - 1.2 * power["interval_s"], t, 60)]
        assert min(covered) - 0.05 <= w <= max(covered) + 0.05
    assert max(power["w"]) - min(power["w"]) > 2.5


@pytest.mark.parametrize("slow", [0.92, 1.08])
def test_a_chip_whose_clock_is_off_is_read_at_its_own_pace(
    agent: Agent, candidate: str, chip: Ina219Chip, slow: float
) -> None:
    chip.slow = slow

    paces = []
    for _ in range(ATTEMPTS):
        power = agent.result("measure", candidate=candidate, power=ina219(), min_s=0.8, max_s=0.9, **QUICK)["power"]
        paces.append(float(np.median(np.diff(power["t_s"]))) / power["interval_s"])
        if paces[-1] == pytest.approx(slow, rel=0.07):
            return  # else a busy machine has put the sampler to sleep for half of the time
    assert min(paces, key=lambda pace: abs(pace - slow)) == pytest.approx(slow, rel=0.07)


def test_a_missing_chip_is_told_with_where_to_look(agent: Agent, candidate: str) -> None:
    error = agent.error("measure", candidate=candidate, power=ina219(address=0x41), **QUICK)

    assert error["kind"] == BAD_REQUEST
    assert "no chip answers at 0x41 on bus 1: check wiring and address with i2cdetect -y 1" in error["message"]


def test_a_chip_that_a_kernel_driver_holds_is_told_with_both_ways_out(
    agent: Agent, candidate: str, bus: I2cFile
) -> None:
    bus.driver_bound.add(0x40)

    error = agent.error("measure", candidate=candidate, power=ina219(), **QUICK)

    assert error["kind"] == BAD_REQUEST
    assert "backend: hwmon" in error["message"]
    assert "echo 1-0040 | sudo tee /sys/bus/i2c/devices/1-0040/driver/unbind" in error["message"]


def test_the_chip_is_offered_as_ok_and_not_written_to(agent: Agent, chip: Ina219Chip, bus: I2cFile) -> None:
    assert agent.result("hello")["sensors"]["ina219"] == "ok"
    assert chip.registers[0] == 0x399F

    bus.chips.clear()
    assert "no chip answers" in agent.result("hello")["sensors"]["ina219"]


def failure(agent: Agent, candidate: str, meanwhile: Callable[[], None]) -> dict:
    """Start a long measurement, do something to the board while it runs, return the error that ends it."""
    agent.send(
        "measure", candidate=candidate, power=ina219(), **{**QUICK, "min_s": 300, "max_s": 400, "timeout_s": 500}
    )
    while agent.receive().get("stage") != "measure":
        pass
    meanwhile()
    reply = agent.reply()
    assert not reply["ok"], reply
    return reply["error"]


def test_an_overflow_ends_the_measurement(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    error = failure(agent, candidate, lambda: setattr(chip, "amperes", lambda _: 3.3))

    assert (error["kind"], "overflowed: more than 3.20 A" in error["message"]) == (INVALID, True)


def test_a_calibration_that_another_program_writes_meanwhile_ends_nothing(
    agent: Agent, candidate: str, chip: Ina219Chip
) -> None:
    """The chip's arithmetic overflows with it, and its overflow bit stands; nobody here uses that arithmetic."""
    chip.amperes, chip.volts = lambda _: 0.32, lambda _: 5.1
    agent.send("measure", candidate=candidate, power=ina219(), **{**QUICK, "min_s": 0.5, "max_s": 0.6})
    while agent.receive().get("stage") != "measure":
        pass
    chip.registers[CALIBRATION] = 0xFFFE
    reply = agent.reply()

    assert reply["ok"], reply
    assert chip.registers[BUS] & 1
    assert reply["result"]["power"]["w"] == pytest.approx([1.632] * len(reply["result"]["power"]["w"]), rel=2e-3)


@pytest.mark.parametrize(("range_v", "found"), [(16, "a supply of 16 V or more; write `range_v: 32`"), (32, 19.0)])
def test_a_supply_of_19_volts_is_measured_in_the_range_for_it_and_refused_in_the_other(
    agent: Agent, candidate: str, chip: Ina219Chip, range_v: int, found: str | float
) -> None:
    chip.amperes, chip.volts = lambda _: 1.0, lambda _: 19.0
    agent.send("measure", candidate=candidate, power=ina219(range_v=range_v), **{**QUICK, "min_s": 0.3, "max_s": 0.4})
    reply = agent.reply()

    if isinstance(found, str):
        assert (reply["error"]["kind"], found in reply["error"]["message"]) == (INVALID, True)
    else:
        assert reply["result"]["power"]["w"] == pytest.approx([found] * len(reply["result"]["power"]["w"]), rel=2e-3)


def test_one_transfer_that_fails_costs_a_value_and_is_counted(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    agent.send("measure", candidate=candidate, power=ina219(), **{**QUICK, "min_s": 0.5, "max_s": 0.6})
    while agent.receive().get("stage") != "measure":
        pass
    chip.faults, chip.fault = 1, OSError(errno.EREMOTEIO, "no acknowledge")
    reply = agent.reply()

    assert reply["ok"], reply
    assert reply["result"]["power"]["dropped"] >= 1


def test_a_chip_that_goes_away_ends_the_measurement(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    error = failure(agent, candidate, lambda: setattr(chip, "fault", OSError(errno.EREMOTEIO, "no acknowledge")))

    assert (error["kind"], "no chip answers at 0x40" in error["message"]) == (INVALID, True)


def test_a_bus_that_hangs_up_ends_the_measurement(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    error = failure(agent, candidate, lambda: setattr(chip, "fault", OSError(errno.ETIMEDOUT, "stuck")))

    assert (error["kind"], "I2C transfer with 0x40" in error["message"]) == (INVALID, True)


def test_one_reset_costs_a_gap_and_no_wrong_value(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    """After a reset the chip converts once a millisecond, unaveraged, and first shows nothing at all."""
    agent.send("measure", candidate=candidate, power=ina219(), **{**QUICK, "min_s": 0.7, "max_s": 0.8})
    while agent.receive().get("stage") != "measure":
        pass
    chip.reset()
    reset_s = time.monotonic()
    reply = agent.reply()

    assert reply["ok"], reply
    power = reply["result"]["power"]
    floor_w = 5.0 * (REST_A - 0.06)
    assert min(power["w"]) > floor_w
    assert chip.registers[0] == 0x19EF
    times = np.array(power["t_s"])
    around = (times[1:] > reset_s) & (times[:-1] < reset_s + 0.2)
    assert np.diff(times)[around].max() > 1.2 * power["interval_s"]


def test_a_chip_that_resets_again_and_again_ends_the_measurement(
    agent: Agent, candidate: str, chip: Ina219Chip
) -> None:
    stop = threading.Event()

    def brown_out() -> None:
        while not stop.wait(0.1):
            chip.reset()

    thread = threading.Thread(target=brown_out)
    try:
        error = failure(agent, candidate, thread.start)
    finally:
        stop.set()
        thread.join()

    assert (error["kind"], "lost its configuration 4 times in a minute" in error["message"]) == (INVALID, True)


def test_the_sampler_takes_little_of_the_board(agent: Agent, candidate: str, chip: Ina219Chip) -> None:
    """It sleeps until a conversion is due, and so looks at the chip once or twice a value: 1.0 to 1.3 % of a core."""
    result = agent.result("measure", candidate=candidate, power=ina219(), **{**QUICK, "min_s": 1, "max_s": 1.1})

    values = len(result["power"]["w"])
    assert values <= chip.looks <= 3 * values + 16  # in all of a cycle at most, where the two clocks have yet to meet


def test_the_meter_s_test_tells_the_supply_voltage_beside_the_power(agent: Agent, chip: Ina219Chip) -> None:
    chip.amperes, chip.volts = lambda _: 0.5, lambda _: 5.0

    result = agent.result("meter", power=ina219(), seconds=0.4, threads=1)

    for phase in ("rest", "load"):
        assert set(result[phase]["v"]) == {5.0}
        assert result[phase]["w"] == pytest.approx([2.5] * len(result[phase]["v"]), rel=1e-3)
    assert meter_report(result).drop_v == 0


SMBUS2 = """
from smbus2 import SMBus, i2c_msg
with SMBus(1) as bus:
    print(hex(int.from_bytes(bytes(bus.read_i2c_block_data(0x40, 0, 2)), "big")))
    print(hex(bus.read_word_data(0x40, 0)))
    ask, answer = i2c_msg.write(0x40, [0]), i2c_msg.read(0x40, 2)
    bus.i2c_rdwr(ask, answer)
    print(bytes(answer).hex())
    bus.write_i2c_block_data(0x40, 0, [0x19, 0xEF])
    print(hex(int.from_bytes(bytes(bus.read_i2c_block_data(0x40, 0, 2)), "big")))
    try:
        bus.read_word_data(0x44, 0)
    except OSError as error:
        print(error.errno)
"""


def test_an_unmodified_library_finds_the_same_chip(on_board: Callable[..., list[str]]) -> None:
    """smbus2 is what people's own scripts use: the file is a bus, and not merely our own driver's twin."""
    pytest.importorskip("smbus2")

    done = subprocess.run(on_board(sys.executable, "-c", SMBUS2), capture_output=True, text=True, timeout=60)

    assert done.stdout.split() == ["0x399f", "0x9f39", "399f", "0x19ef", str(errno.EREMOTEIO)], done.stderr
