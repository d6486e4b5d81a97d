"""The kernel's own ina2xx driver on a whole arm64 machine: what the agent reads through hwmon, and its traps.

The chip is i2c-stub: registers that keep what is written into them, at the address of an INA219.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.devices.agent_client import open_agent
from pipeline.errors import MeasureError
from pipeline.export.onnx.exporter import answers, export
from pipeline.export.onnx.skeleton import skeleton
from pipeline.records import Device, OnnxSupport
from tests.lab import arm64_kernel, machine
from tests.lab.board import Board
from tests.lab.conftest import device_of, skip_without

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

MEASURE = {
    "warmup_s": 0.05, "min_s": 2, "max_s": 4, "block_s": 2, "ci_rel": 0.5, "idle_s": 0.3, "processes": 1,
    "max_background_cores": 64,
}  # fmt: skip
ADDRESS, SHUNT_OHMS = 0x40, 0.1
HWMON = {"backend": "hwmon", "shunt_ohms": SHUNT_OHMS}
SHUNT, BUS, CURRENT = 0x01, 0x02, 0x04  # registers, SBOS448; with the driver's calibration, CURRENT equals SHUNT
SHUNT_LSB_V, BUS_LSB_V = 10e-6, 4e-3

SHUNT_RESISTOR, CURRENT_MA = (f"/sys/class/hwmon/hwmon0/{name}" for name in ("shunt_resistor", "curr1_input"))
DEFAULT_UOHM = 10_000
BIND = f"""
set -e
busybox insmod /lib/modules/i2c-dev.ko
busybox insmod /lib/modules/i2c-stub.ko chip_addr={ADDRESS:#x}
busybox insmod /lib/modules/ina2xx.ko
chgrp i2c /dev/i2c-0
chmod 660 /dev/i2c-0
echo ina219 {ADDRESS:#x} > /sys/bus/i2c/devices/i2c-0/new_device
"""


@pytest.fixture(scope="module")
def bare_machine(system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    skip_without(machine.missing())
    with machine.machine(system, arm64_kernel.arm64_kernel(), tmp_path_factory.mktemp("machine")) as board:
        yield board


@pytest.fixture(scope="module")
def board(bare_machine: Board) -> Board:
    """The machine with an INA219 on its bus 0 that the kernel's driver holds."""
    as_root(bare_machine, BIND)
    assert bare_machine.run("cat", SHUNT_RESISTOR).strip() == str(DEFAULT_UOHM), "the driver's default is another"
    return bare_machine


def as_root(board: Board, script: str) -> str:
    return replace(board, user="root").run("sh", stdin=script)


def flow(board: Board, volts: float, amperes: float) -> None:
    """Let the chip see this; it is a word's bytes swapped, since SMBus sends the low one first."""
    shunt = round(amperes * SHUNT_OHMS / SHUNT_LSB_V)
    words = {SHUNT: shunt, CURRENT: shunt, BUS: round(volts / BUS_LSB_V) << 3 | 2}
    swapped = {register: int.from_bytes(word.to_bytes(2, "big"), "little") for register, word in words.items()}
    script = "".join(f"busybox i2cset -f -y 0 {ADDRESS:#x} {r:#x} {w:#x} w\n" for r, w in swapped.items())
    as_root(board, f"set -e\n{script}")


def fixed(board: Board, said: str) -> None:
    """Do as root what a message tells the user to do."""
    (command,) = re.findall(r"echo \S+ \| sudo tee \S+", said)
    as_root(board, command.replace("sudo ", ""))


@pytest.fixture
def device(board: Board, tmp_path: Path) -> Device:
    return device_of(board, tmp_path, power=HWMON, measure=MEASURE)


@pytest.fixture
def told(board: Board) -> None:
    """The driver knows the shunt."""
    as_root(board, f"echo {SHUNT_OHMS * 1e6:.0f} > {SHUNT_RESISTOR}")


@pytest.fixture
def model(network: torch.nn.Module, digits: torch.Tensor) -> bytes:
    return export(network, digits, OnnxSupport(15, 8))


@pytest.fixture(autouse=True)
def tidy(board: Board) -> Iterator[None]:
    yield
    board.assert_tidy()


def test_the_driver_s_default_shunt_is_refused_with_the_command_that_fixes_it(board: Board, device: Device) -> None:
    as_root(board, f"echo {DEFAULT_UOHM} > {SHUNT_RESISTOR}")
    flow(board, volts=5.0, amperes=0.2)
    assert int(board.run("cat", CURRENT_MA)) == 2000  # ten times what flows
    with open_agent(device) as agent:
        said = agent.facts.sensors["hwmon"]
    assert "0.01 ohm, the inventory says 0.1" in said
    fixed(board, said)
    assert int(board.run("cat", CURRENT_MA)) == 200


@pytest.mark.usefixtures("told")
def test_power_and_energy_follow_the_chip_an_overflow_is_no_figure_and_answers_are_the_host_s(
    board: Board, device: Device, model: bytes, digits: torch.Tensor
) -> None:
    with open_agent(device) as agent:  # which starts in seconds on such a machine: once for all of it
        assert agent.facts.machine == "aarch64"
        assert agent.facts.sensors["hwmon"] == "ok"
        for volts, amperes in ((5.0, 0.2), (5.1, 0.6)):
            flow(board, volts, amperes)
            measured = agent.measure(skeleton(model), "skeleton")
            power = measured.power
            assert power is not None
            assert (power.source, power.scope) == ("hwmon ina219", "board")
            assert power.mean_w.value == pytest.approx(volts * amperes, rel=0.01)
            alone_mj = power.mean_w.value * measured.mean_ms
            assert 0.9 * alone_mj < power.energy_total_mj.value < 3 * alone_mj  # with what lies between two inferences
        flow(board, volts=5.0, amperes=3.2)
        with pytest.raises(MeasureError, match="overflowed"):
            agent.measure(model)
        found = agent.verify(model, digits.numpy())
    np.testing.assert_allclose(found, answers(model, digits.numpy()), atol=1e-4)


def test_the_raw_backend_says_that_the_driver_holds_the_chip_and_how_to_read_through_it(
    board: Board, tmp_path: Path
) -> None:
    raw = {"backend": "ina219", "bus": 0, "address": ADDRESS, "shunt_ohms": SHUNT_OHMS}
    with open_agent(device_of(board, tmp_path, power=raw)) as agent:
        said = agent.facts.sensors["ina219"]
    assert "kernel driver holds the chip at 0x40 on bus 0" in said
    assert "backend: hwmon" in said
