"""`devices check`: every step is told, a failed one with its fix, those behind it as not looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.agent_client import open_agent
from pipeline.devices.diagnostics import check
from pipeline.devices.diagnostics.check import BOARD, WAY, check_device
from pipeline.records import Device, PowerSettings


def by_name(device: Device) -> dict[str, check.Finding]:
    findings = check_device(device)
    assert [f.name for f in findings] == [*WAY, *BOARD]
    return {f.name: f for f in findings}


@pytest.fixture
def local(tmp_path: Path) -> Device:
    return Device(name="here", kind="local", agent_dir=str(tmp_path), runtime="null")


def test_a_good_device_has_nothing_but_ticks(local: Device) -> None:
    found = by_name(local)
    assert all(f.ok for f in found.values())
    assert not any(f.fix for f in found.values())


def test_a_missing_runtime_is_told_with_the_board_s_own_install_command(local: Device) -> None:
    found = by_name(replace(local, runtime="other", fixes={"runtime": "no", "runtime other": "pip install it"}))
    assert (found["runtime"].ok, found["runtime"].fix) == (False, "pip install it")
    assert found["disk"].ok


def test_a_sensor_that_cannot_be_read_is_told_with_its_reason(local: Device) -> None:
    found = by_name(
        replace(local, power=PowerSettings(backend="ina219", options={"bus": 250}), fixes={"sensor": "wire it"})
    )
    assert found["sensor"].ok is False
    assert "ina219" in found["sensor"].detail
    assert found["sensor"].fix == "wire it"


def test_an_unknown_sensor_is_told(local: Device) -> None:
    assert "no sensor 'nonesuch'" in by_name(replace(local, power=PowerSettings(backend="nonesuch")))["sensor"].detail


def test_who_measures_on_the_board_is_told(local: Device) -> None:
    assert by_name(local)["holder"].detail == "not in use"
    with open_agent(local) as other:
        other.hold()
        found = by_name(local)["holder"]
    assert (found.ok, found.level, "held by" in found.detail) == (True, "warn", True)


def test_too_little_disk_and_memory_are_told(local: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LEAST_DISK_MB", 1e12)
    monkeypatch.setattr(check, "LEAST_MEMORY_MB", 1e12)
    found = by_name(local)
    assert found["disk"].ok is found["memory"].ok is False
    assert "make room" in found["disk"].fix


def test_a_python_that_is_not_there_stops_the_way_and_leaves_the_rest_open(local: Device) -> None:
    found = by_name(replace(local, python="/nowhere/python"))
    assert found["python"].ok is False
    assert (found["login"].ok, found["agent"].ok, found["runtime"].ok) == (True, None, None)
    assert "python failed" in found["agent"].detail


@pytest.mark.sshd
def test_over_ssh_each_step_of_the_way_fails_as_itself(sshd: Any) -> None:
    assert all(f.ok for f in check_device(sshd.device()))
    wrong_user = by_name(sshd.device(address=sshd.address(user="nobody-here")))
    assert (wrong_user["connection"].ok, wrong_user["host key"].ok, wrong_user["login"].ok) == (True, True, False)
    assert "ssh-copy-id" in wrong_user["login"].fix
    sshd.known_hosts.write_text("")
    unknown = by_name(sshd.device())
    assert (unknown["connection"].ok, unknown["host key"].ok, unknown["login"].ok) == (True, False, None)
    assert "pipeline devices trust board" in unknown["host key"].detail + unknown["host key"].fix
    sshd.stop()
    assert by_name(sshd.device())["connection"].ok is False
