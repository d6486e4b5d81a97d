"""`devices doctor` over a real sshd, on a Raspberry Pi with an INA219 whose current follows the board's real load."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.devices.diagnostics.check import Finding
from pipeline.devices.diagnostics.doctor import examine
from pipeline.records import Device
from tests.device_agents.boards import FolderBoard
from tests.lab.i2c_board import INA219, i2c_board
from tests.lab.ina219_chip import Ina219Chip

pytestmark = pytest.mark.lab

REST_A, BUSY_A = 0.55, 1.2


class Load:
    """How many programs of the board do nothing but run, looked at 20 times a second."""

    def __init__(self, board: Path) -> None:
        self._mark = f"PIPELINE_BOARD_ROOT={board}".encode()
        self._ended = threading.Event()
        self.busy = False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.busy = any(self._at_work(entry) for entry in Path("/proc").glob("[0-9]*"))

    def _at_work(self, entry: Path) -> bool:
        try:
            return b"while True" in (entry / "cmdline").read_bytes() and self._mark in (entry / "environ").read_bytes()
        except OSError:
            return False


@pytest.fixture
def board(tmp_path: Path) -> FolderBoard:
    board = FolderBoard(tmp_path / "board")
    (board.root / "sys/firmware/devicetree/base").mkdir(parents=True)
    (board.root / "sys/firmware/devicetree/base/model").write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    (board.root / "proc/meminfo").write_text("MemTotal: 3884096 kB\nMemAvailable: 3271880 kB\nSwapTotal: 102396 kB\n")
    board.program("vcgencmd", "#!/bin/sh\necho throttled=0x0\n")
    return board


@pytest.fixture
def supply() -> dict[str, float]:
    """The supply's voltage without a load, and its resistance."""
    return {"volts": 5.15, "ohms": 0.02}


@pytest.fixture
def chip(board: FolderBoard, supply: dict[str, float]) -> Iterator[Ina219Chip]:
    load = Load(board.root)

    def amperes(t: float) -> float:
        return (BUSY_A if load.busy else REST_A) + 0.001 * (int(t * 1e3) % 7)

    def volts(t: float) -> float:
        return supply["volts"] - amperes(t) * supply["ohms"]

    yield Ina219Chip(amperes, volts)
    load.close()


@pytest.fixture
def device(chip: Ina219Chip, board: FolderBoard, tmp_path: Path) -> Iterator[Device]:
    environment = {"PIPELINE_BOARD_ROOT": str(board.root), "PATH": f"{board.programs}:{os.environ['PATH']}"}
    with i2c_board(tmp_path, chip, environment) as server:
        yield server.device(power=INA219, modes={"governor": "performance"})


def visit(device: Device) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(device, 2.0)}


def test_a_sound_meter_on_a_sound_supply_is_passed_with_its_figures(device: Device) -> None:
    found = visit(device)

    assert {f.name: f.detail for f in found.values() if f.level == "bad"} == {}
    assert found["watts"].detail.startswith("2.8")  # 0.55 A at 5.14 V
    assert "ina219 sees board power" in found["meter"].detail
    assert found["supply"].detail == "5.14 V at rest, 5.12 V at work"
    assert found["mode governor"].level == "ok"


def test_a_supply_that_gives_way_under_load_is_found_before_a_run_is_spoilt(
    device: Device, supply: dict[str, float]
) -> None:
    supply.update(volts=5.0, ohms=0.4)
    found = visit(device)["supply"]

    assert (found.level, "under 4.63 V a Raspberry Pi throttles" in found.detail) == ("bad", True)
    assert "a 0.02 Ω shunt instead of 0.1 Ω, which takes 0.12 V" in found.fix


def test_a_shunt_that_is_not_the_inventory_s_is_found(device: Device) -> None:
    wrong = replace(device.power, options={**device.power.options, "shunt_ohms": 0.005})
    found = visit(replace(device, power=wrong))["watts"]

    assert (found.level, "read the breakout's resistor" in found.fix) == ("bad", True)
