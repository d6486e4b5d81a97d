"""`devices doctor`: each verdict on evidence as data, and whole visits to a board that a folder stands in for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.agent_client import Telemetry, open_agent
from pipeline.devices.diagnostics.check import BOARD, WAY, Finding
from pipeline.devices.diagnostics.doctor import Observation, calibrated, diagnosis, examine
from pipeline.devices.stored_calibrations import Known, store_calibration
from pipeline.measurement.calibration import Conditions, Rate
from pipeline.records import Device, LockSettings, PowerSettings
from tests.device_agents.boards import FolderBoard
from tests.examples import calibration, device_facts

CALM = Telemetry(
    temperature_c=48.0, clock_mhz=1500.0, governor="performance", load=0.1, cpu_busy_s=100.0, cpu_steal_s=0.0,
    memory_free_mb=3000.0, disk_free_mb=9000.0, throttled="0x0",
)  # fmt: skip
PI = Device(name="pi4", kind="raspberry-pi-4")


def seen(**changes: Any) -> Observation:
    facts = replace(
        device_facts(), board="Raspberry Pi 4 Model B Rev 1.4", governors="ondemand,performance", swap_mb=100.0
    )
    return replace(
        Observation(
            device=PI, facts=facts, held={"applied": {}, "refused": {}}, quiet_s=1.0, quiet=(CALM, CALM), before=CALM,
            during=CALM, after=CALM, threads=4,
        ),
        **changes,
    )  # fmt: skip


def verdicts(evidence: Observation) -> dict[str, Finding]:
    findings = diagnosis(evidence)
    assert all(f.fix for f in findings if f.level in ("warn", "bad"))
    return {f.name: f for f in findings}


def test_a_calm_board_has_nothing_but_ticks() -> None:
    assert {f.level for f in verdicts(seen()).values()} == {"ok"}


@pytest.mark.parametrize(
    ("before", "during", "level", "words"),
    [
        ("0x0", "0x0", "ok", "never since the board started"),
        ("0x50000", "0x50000", "warn", "since the board started: under-voltage, throttled"),
        ("0x0", "0x50005", "bad", "now: under-voltage, throttled; since the board started: under-voltage"),
        ("0x0", "0x80000", "bad", "soft temperature limit (under the doctor's load)"),
    ],
)
def test_throttling_is_told_in_words_and_is_bad_when_the_load_brings_it_up(
    before: str, during: str, level: str, words: str
) -> None:
    quiet = replace(CALM, throttled=before)
    found = verdicts(seen(quiet=(quiet, quiet), during=replace(CALM, throttled=during)))["throttling"]

    assert (found.level, words in found.detail) == (level, True)
    assert ("supply" in found.fix) == ("under-voltage" in found.detail)


def test_a_pi_that_does_not_tell_of_its_throttling_is_told_how_to() -> None:
    mute = replace(CALM, throttled=None)
    found = verdicts(seen(quiet=(mute, mute), during=mute, after=mute))["throttling"]

    assert (found.level, "group video" in found.fix) == ("warn", True)


def test_other_boards_have_no_throttling_bits_to_miss() -> None:
    mute = replace(CALM, throttled=None)
    nano = replace(device_facts(), board="NVIDIA Jetson Nano Developer Kit")

    assert "throttling" not in verdicts(seen(quiet=(mute, mute), during=mute, after=mute, facts=nano))


def test_a_governor_that_moves_the_clock_is_told_with_the_line_for_the_inventory() -> None:
    found = verdicts(seen(during=replace(CALM, governor="ondemand", clock_mhz=1500.0)))["clock"]

    assert (found.level, "governor ondemand at 1500 MHz" in found.detail) == ("warn", True)
    assert "`modes: {governor: performance}`" in found.fix
    assert "pipeline devices setup pi4" in found.fix


def test_modes_are_told_as_the_board_took_them() -> None:
    held = {
        "applied": {"governor": "performance"},
        "refused": {
            "nvpmodel": "no nvpmodel",
            "jetson_clocks": "only root; `pipeline devices setup` installs a helper",
        },
    }
    found = verdicts(seen(held=held))

    assert [found[f"mode {mode}"].level for mode in ("governor", "nvpmodel", "jetson_clocks")] == ["ok", "warn", "warn"]
    assert "inventory" in found["mode nvpmodel"].fix
    assert found["mode jetson_clocks"].fix == "pipeline devices setup pi4 --apply"


@pytest.mark.parametrize(("celsius", "level"), [(60.0, "ok"), (78.0, "warn"), (90.0, "bad")])
def test_heat_under_load_is_told(celsius: float, level: str) -> None:
    assert verdicts(seen(during=replace(CALM, temperature_c=celsius)))["temperature"].level == level


def test_others_at_work_and_little_memory_are_told() -> None:
    later = replace(CALM, cpu_busy_s=101.2, memory_free_mb=90.0)
    found = verdicts(seen(quiet=(CALM, later)))

    assert (found["others"].level, "1.20 of" in found["others"].detail) == ("warn", True)
    assert found["free memory"].level == "warn"


def test_what_the_inventory_promises_beyond_the_runtime_is_told() -> None:
    facts = replace(device_facts(), runtimes={"onnxruntime": "1.10.0"})
    found = verdicts(seen(facts=facts, device=replace(PI, onnx_max_opset=17)))["format"]

    assert (found.level, "opset 15" in found.detail) == ("bad", True)
    assert "max_opset: 15, max_ir: 8" in found.fix


def test_a_32_bit_system_is_told_before_anybody_looks_for_a_wheel() -> None:
    assert verdicts(seen(facts=replace(device_facts(), machine="armv7l")))["system"].level == "bad"


def test_a_board_that_says_nothing_is_not_blamed_for_it() -> None:
    silent = Telemetry()
    facts = replace(device_facts(), board="a board")
    found = verdicts(seen(quiet=(silent, silent), before=silent, during=silent, after=silent, facts=facts))

    assert {f.level for f in found.values()} == {"ok"}


# ---------------------------------------------------------------- calibration


def test_a_board_that_was_never_calibrated_is_told_how_and_not_blamed() -> None:
    found = calibrated(Known(None, never=True), "pi4")

    assert found.level == "ok"
    assert found.detail.startswith("never; `pipeline devices calibrate pi4`")


def test_a_calibration_that_holds_is_told_with_its_date_deviation_and_rates() -> None:
    found = calibrated(Known(calibration()), "pi4")

    assert (found.level, found.detail) == ("ok", str(calibration()))


def test_intervals_that_hold_the_truth_too_seldom_are_a_warning() -> None:
    narrow = [replace(checked, covered=Rate(0.6, 0.1)) for checked in calibration().checked]
    found = calibrated(Known(calibration(checked=tuple(narrow))), "pi4")

    assert (found.level, "too few: 60.0 % ±10.0 at 1× in one process" in found.detail) == ("warn", True)
    assert "end what else runs there" in found.fix


def test_a_calibration_that_does_not_hold_is_told_with_why() -> None:
    found = calibrated(Known(None, why="the calibration of 2026-11-30 is of another runtime: a, now b"), "pi4")

    assert found.level == "warn"
    assert found.detail == "not used: the calibration of 2026-11-30 is of another runtime: a, now b"
    assert found.fix == "`pipeline devices calibrate pi4`"


# ---------------------------------------------------------------- visits


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null")


def visited(device: Device) -> dict[str, Finding]:
    return {f.name: f for f in examine(device, 0.5)}


def test_without_a_sensor_the_doctor_still_watches_the_board_at_work(board: FolderBoard, device: Device) -> None:
    board.program("vcgencmd", "#!/bin/sh\necho throttled=0x50005\n")
    found = visited(replace(device, modes={"governor": "performance"}))

    assert list(found)[: len(WAY) + len(BOARD)] == [*WAY, *BOARD]
    assert found["mode governor"].detail == "performance, while a run holds the board"
    assert (found["throttling"].level, "under-voltage" in found["throttling"].detail) == ("bad", True)
    assert "power is not measured" in found["sensor"].detail
    assert board.governors == {"ondemand"}


def test_a_visit_tells_of_the_calibration_as_long_as_it_holds(board: FolderBoard, device: Device) -> None:
    assert "never" in visited(device)["calibration"].detail
    with open_agent(device) as agent:
        now = Conditions.of(device, agent.facts, device.measure)
    store_calibration(device, calibration(device="here", conditions=now))
    assert visited(device)["calibration"].detail.startswith("2026-11-30 with resnet20")

    changed = replace(device, measure=replace(device.measure, threads=2))
    assert "of another number of threads: 1, now 2" in visited(changed)["calibration"].detail


def test_a_sensor_is_tested_at_rest_and_at_work(board: FolderBoard, device: Device) -> None:
    board.program("tegrastats", TEGRASTATS)
    power = PowerSettings(backend="tegrastats", options={"interval_ms": 20})
    found = visited(replace(device, power=power))

    assert "tegrastats" in found["meter"].detail
    assert found["watts"].level == "bad"  # a script knows nothing of the load
    assert "does not follow the load" in found["watts"].detail


def test_a_sensor_that_fails_on_the_way_is_told_and_the_board_is_still_judged(
    board: FolderBoard, device: Device
) -> None:
    board.program("tegrastats", "#!/bin/sh\necho POM_5V_IN 2100/2000\nsleep 0.2\nexit 3\n")
    found = visited(replace(device, power=PowerSettings(backend="tegrastats", options={"interval_ms": 20})))

    assert found["meter"].level == "bad"
    assert "governor ondemand" in found["clock"].detail


def test_a_sensor_that_is_not_there_is_told_once_and_the_board_is_still_judged(
    board: FolderBoard, device: Device
) -> None:
    found = visited(replace(device, power=PowerSettings(backend="ina219", options={"bus": 250})))

    assert (found["sensor"].level, "meter" in found) == ("bad", False)
    assert "governor ondemand" in found["clock"].detail


def test_a_board_that_somebody_holds_is_not_disturbed(board: FolderBoard, device: Device) -> None:
    with open_agent(device) as other:
        other.hold()
        found = visited(replace(device, lock=LockSettings(wait_s=0.2)))

    assert (found["holder"].level, found["watch"].level) == ("warn", "bad")
    assert "held by" in found["watch"].detail


def test_a_way_that_is_blocked_is_told_as_check_tells_it(device: Device) -> None:
    found = visited(replace(device, python="/nowhere/python"))

    assert found["python"].ok is False
    assert list(found) == [*WAY, *BOARD]


TEGRASTATS = """#!/bin/sh
n=0
while sleep 0.02; do n=$(( (n + 7) % 40 )); echo "RAM 1/2MB POM_5V_IN $((2000 + n))/2000 POM_5V_GPU 300/300"; done
"""
