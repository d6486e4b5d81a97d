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
def own(tmp_path: Path) -> Path:
    """A folder of plugins of one's own."""
    for kind in ("power", "runtimes"):
        (tmp_path / "plugins" / kind).mkdir(parents=True)
    return tmp_path / "plugins"


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


def test_the_first_runtime_of_several_that_is_there_is_used_and_said_so(local: Device) -> None:
    found = by_name(replace(local, runtime="onnxruntime", runtimes=("null", "onnxruntime")))["runtime"]
    assert (found.level, found.fix) == ("ok", "")
    assert "the first of null, onnxruntime, and the board has it" in found.detail


def test_where_the_preferred_runtime_is_not_there_the_next_one_is_used_with_the_reason_and_the_fix(
    local: Device,
) -> None:
    several = replace(local, runtimes=("tensorrt", "null"), fixes={"runtime tensorrt": "sudo apt-get install it"})
    found = by_name(several)["runtime"]
    assert found.level == "warn"
    assert "networks run on the processor with null 2: python 3." in found.detail
    assert "there finds no tensorrt" in found.detail
    assert found.fix == "sudo apt-get install it; or `runtime: null` in the inventory, to leave it at that"


def test_where_none_of_several_runtimes_is_there_the_last_one_s_install_command_is_told(local: Device) -> None:
    several = replace(local, runtime="other", runtimes=("tensorrt", "other"), fixes={"runtime other": "pip install it"})
    found = by_name(several)["runtime"]
    assert (found.ok, found.fix) == (False, "pip install it")


def test_a_sensor_that_cannot_be_read_is_told_with_its_reason(local: Device) -> None:
    found = by_name(
        replace(local, power=PowerSettings(backend="ina219", options={"bus": 250}), fixes={"sensor": "wire it"})
    )
    assert found["sensor"].ok is False
    assert "ina219" in found["sensor"].detail
    assert found["sensor"].fix == "wire it"


def test_a_runtime_of_ones_own_is_told_with_its_own_install_command(local: Device, own: Path) -> None:
    text = "INSTALL = 'pip install mine'\ndef installed(): return None\ndef version(): ...\ndef load(*_): ...\n"
    (own / "runtimes/mine.py").write_text(text)
    found = by_name(replace(local, runtime="mine", plugins=str(own)))["runtime"]
    assert (found.ok, found.fix) == (False, "pip install mine")


def test_a_plugin_that_the_board_cannot_import_is_told_with_its_file(local: Device, own: Path) -> None:
    (own / "power/mine.py").write_text("import nonesuch\ndef check(o): ...\ndef open(o): ...\n")
    (own / "runtimes/mine.py").write_text(
        "import nonesuch\ndef installed(): ...\ndef version(): ...\ndef load(*_): ...\n"
    )
    found = by_name(replace(local, runtime="mine", power=PowerSettings(backend="mine"), plugins=str(own)))
    for step, file in (("sensor", "power/mine.py"), ("runtime", "runtimes/mine.py")):
        assert found[step].ok is False
        assert f"{file} cannot be imported by this board's Python" in found[step].detail
        assert "No module named 'nonesuch'" in found[step].detail
        assert found[step].fix == f"change plugins/{file} beside the inventory, or choose another there"


def test_where_no_sensor_can_be_read_the_one_that_could_be_set_up_is_told(local: Device) -> None:
    with open_agent(replace(local, power=PowerSettings(backend="auto"))) as agent:
        for state, said in (("kernels keep it for root", "rapl: kernels keep it"), ("no RAPL", "(ina219, rapl)")):
            agent.facts = replace(agent.facts, sensors={"ina219": "no chip", "rapl": state, "null": "ok"})
            (found,) = (f for f in check.findings_with_agent(agent) if f.name == "sensor")
            assert (found.ok, said in found.detail) == (True, True)


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
