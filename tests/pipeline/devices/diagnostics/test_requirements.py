"""`devices setup`: what a board lacks as a script that a shell can run, and really runs, here and over SSH."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.devices.agent_client import Agent
from pipeline.devices.diagnostics import requirements
from pipeline.devices.diagnostics.check import _board
from pipeline.devices.diagnostics.requirements import Fix, missing_requirements, script
from pipeline.devices.inventory.load import kinds, load_inventory
from pipeline.errors import DeviceError, PythonMissingError
from pipeline.records import Device, DeviceFacts, PowerSettings
from tests.examples import device_facts

PI = Device(name="pi4", kind="raspberry-pi-4", user_groups=("video",), fixes={"runtime": "pip install onnxruntime"})
FACTS = replace(
    device_facts(), board="Raspberry Pi 4 Model B Rev 1.4", user="ann", groups=("ann", "video"),
    runtimes={"onnxruntime": "1.19.2"},
)  # fmt: skip


def of(device: Device, facts: DeviceFacts) -> Agent:
    """An agent of whom only the records are known: nobody has to be connected for these verdicts."""
    agent = Agent.__new__(Agent)
    agent.device, agent.facts = device, facts
    return agent


def as_text(device: Device = PI, facts: DeviceFacts = FACTS) -> str:
    fixes = missing_requirements(of(device, facts))
    return script(fixes, device) if fixes else ""


def test_a_board_that_has_everything_gets_no_script() -> None:
    assert as_text() == ""


def test_only_the_groups_that_are_missing_are_joined() -> None:
    power = PowerSettings(backend="ina219")
    facts = replace(FACTS, sensors={"ina219": "no permission for /dev/i2c-1"})

    assert "sudo usermod -aG i2c ann\n# Then: log in again" in as_text(replace(PI, power=power), facts)


def test_i2c_is_switched_on_where_the_bus_is_missing() -> None:
    facts = replace(FACTS, sensors={"ina219": "/dev/i2c-1 is missing"}, groups=("video", "i2c"))

    assert as_text(replace(PI, power=PowerSettings(backend="ina219")), facts).endswith(
        "sudo raspi-config nonint do_i2c 0\n"
    )


def test_a_pc_s_energy_counter_is_opened_only_where_it_is_closed() -> None:
    pc = Device(name="pc", kind="local", power=PowerSettings(backend="rapl"), fixes={"sensor": "# buy one"})
    closed, absent = ({"rapl": state} for state in ("cannot read /sys/it: kernels keep it for root", "no package zone"))

    assert "\nsudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in as_text(pc, replace(FACTS, sensors=closed))
    assert as_text(pc, replace(FACTS, sensors=absent)) == ""


def test_a_missing_runtime_is_installed_by_the_profile_s_command_unless_that_is_only_advice() -> None:
    without = replace(FACTS, runtimes={})

    assert "\npip install onnxruntime\n" in as_text(facts=without)
    assert as_text(replace(PI, fixes={"runtime": "# none for this python"}), without) == ""


def test_a_runtime_that_the_profile_does_not_know_is_installed_by_its_own_command() -> None:
    without = replace(FACTS, runtimes={})

    assert "\npython3 -m pip install ai-edge-litert\n" in as_text(replace(PI, runtime="tflite"), without)
    assert as_text(replace(PI, runtime="tensorrt"), without) == "", "which no command brings"


OWN_SENSOR = """
USER_GROUPS = ["dialout", "video"]
SETUP = [
    {"when": "asleep", "command": "wake --other", "board": "Jetson"},
    {"when": "asleep", "command": "sudo wake-meter", "title": "the meter is awake"},
]
def check(options): ...
def open(options): ...
"""


def test_a_sensor_of_ones_own_brings_its_groups_and_its_setup(tmp_path: Path) -> None:
    (tmp_path / "power").mkdir()
    (tmp_path / "power/mine.py").write_text(OWN_SENSOR)
    device = replace(PI, power=PowerSettings(backend="mine"), plugins=str(tmp_path))

    text = as_text(device, replace(FACTS, sensors={"mine": "the meter is asleep"}))

    assert "sudo usermod -aG dialout ann\n" in text
    assert text.endswith("# 2. the meter is awake\nsudo wake-meter\n")
    assert "wake-meter" not in as_text(device, replace(FACTS, sensors={"mine": "ok"}))


def test_what_a_board_says_of_its_sensor_is_never_a_command() -> None:
    said = {"ina219": "/dev/i2c-1 is missing; reboot", "evil": "is missing: reboot"}
    facts = replace(FACTS, sensors=said, groups=("video", "i2c"))

    for backend in said:
        assert "reboot" not in as_text(replace(PI, power=PowerSettings(backend=backend)), facts)


def test_the_helper_comes_only_where_modes_are_wanted_by_somebody_who_is_not_root() -> None:
    wanted = replace(PI, modes={"governor": "performance", "jetson_clocks": False})
    current = hashlib.sha256(requirements.helper()).hexdigest()

    assert "pipeline-board" in as_text(wanted)
    assert as_text(wanted, replace(FACTS, helper=current)) == ""
    assert "pipeline-board" in as_text(wanted, replace(FACTS, helper="an older one's"))
    assert as_text(wanted, replace(FACTS, user="root")) == ""
    assert as_text(replace(PI, modes={"jetson_clocks": False})) == ""


def test_sudo_is_given_for_the_helper_alone_and_only_after_it_was_checked() -> None:
    text = as_text(replace(PI, modes={"governor": "performance"}))
    lines = text.splitlines()

    (rule,) = [line for line in lines if "NOPASSWD" in line]
    assert "'ann ALL=(root) NOPASSWD: /usr/local/sbin/pipeline-board'" in rule
    assert "tegrastats" not in text
    checked = next(i for i, line in enumerate(lines) if "visudo -cqf /etc/sudoers.d/.pipeline-board.new" in line)
    assert lines[checked + 1] == "sudo mv -f /etc/sudoers.d/.pipeline-board.new /etc/sudoers.d/pipeline-board"


STRANGE_USERS = (
    "ann'; reboot; '", "ann ALL", "$(id)", "ALL", "ADMINS", "Defaults", "User_Alias", "%sudo", "#0", "+staff", "!ann",
    "-rf", "0", "ann,bob", "ann\nALL", "ann=x", "dom\\ann", "ann@corp", "ünn", "", "a" * 33, "ann\x00", "ann:x",
)  # fmt: skip


@pytest.mark.parametrize("user", STRANGE_USERS)
def test_a_user_whose_name_is_no_posix_name_gets_no_command_that_root_would_run(user: str) -> None:
    for facts in (replace(FACTS, user=user, groups=()), replace(FACTS, user=user, groups=("video",))):
        with pytest.raises(DeviceError, match="no POSIX user name: nothing is written for root to run"):
            as_text(replace(PI, modes={"governor": "performance"}), facts)
    (finding,) = (f for f in _board(of(PI, replace(FACTS, user=user, groups=()))) if f.name == "permissions")
    assert "usermod" not in finding.fix


@pytest.mark.parametrize("user", ["ann", "pi", "_apt", "Ann", "ann.lee", "a-b_c9", "a" * 32])
def test_a_posix_name_stands_in_the_commands_as_it_is(user: str) -> None:
    text = as_text(replace(PI, modes={"governor": "performance"}), replace(FACTS, user=user, groups=()))

    assert f"sudo usermod -aG video {user}\n" in text
    assert f"'{user} ALL=(root) NOPASSWD: " in text


def test_a_user_without_a_name_is_not_called_none() -> None:
    with pytest.raises(DeviceError, match="has no name on the board"):
        as_text(facts=replace(FACTS, user=None, groups=()))


def test_a_title_ends_with_its_comment() -> None:
    text = script([Fix("one\nreboot\r\nreboot", ("true",), "log in\nreboot")], PI)

    assert [line for line in text.splitlines() if not line.startswith("#")] == ["set -eu", "", "true"]


def test_every_script_is_one_that_a_shell_can_read() -> None:
    full = replace(PI, modes={"governor": "performance"}, power=PowerSettings(backend="ina219"))
    text = as_text(full, replace(FACTS, runtimes={}, groups=(), sensors={"ina219": "/dev/i2c-1 is missing"}))

    assert [line[:4] for line in text.splitlines() if line.startswith("# ") and line[2].isdigit()] == [
        "# 1.", "# 2.", "# 3.", "# 4.",
    ]  # fmt: skip
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_fix_of_a_profile_is_a_line_that_a_shell_can_read(kind: str, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    more = {"replay": ", recording: x.jsonl", "local": ""}.get(kind, ", host: 10.0.0.1")
    inventory.write_text(f"version: 1\ndevices:\n  board: {{kind: {kind}{more}}}\n")
    for text in load_inventory(inventory).device("board").fixes.values():
        assert subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0, text


def test_without_python_that_comes_first() -> None:
    (fix,) = requirements.missing_python(PythonMissingError("pi4: no Python 3.6 there; tried python3"), PI)

    assert fix == Fix("pi4: no Python 3.6 there", ("sudo apt-get install -y python3",))


# ---------------------------------------------------------------- run for real


def harmless(folder: Path, *more: str) -> str:
    return script([Fix("a file", (f"echo done > {folder}/done", "sudo true", "echo said so", *more))], PI)


def test_a_script_runs_on_this_machine_and_what_it_says_comes_back(tmp_path: Path) -> None:
    local = Device(name="here", kind="local")

    assert requirements.run(local, harmless(tmp_path)) == (0, "said so\n")
    assert (tmp_path / "done").read_text() == "done\n"
    assert requirements.run(local, harmless(tmp_path, "exit 7", "echo never")) == (7, "said so\n")


@pytest.mark.sshd
def test_a_script_runs_over_ssh_whatever_it_is_long_or_says(sshd: Any, tmp_path: Path) -> None:
    device = sshd.device()
    long = [f": {'x' * 1000}"] * 200 + ["echo to stderr >&2", "seq 20000"]

    code, said = requirements.run(device, harmless(tmp_path, *long))

    assert (code, said.startswith("said so\nto stderr\n1\n"), said.endswith("\n20000\n")) == (0, True, True)
    assert requirements.run(device, "exit 3\n") == (3, "")


# ---------------------------------------------------------------- the helper


@pytest.fixture
def helper(tmp_path: Path) -> Any:
    """The helper's own text on a folder shaped like /sys, run by hand."""
    cpu = tmp_path / "cpu"
    for number in (0, 4):
        (cpu / f"cpufreq/policy{number}").mkdir(parents=True)
        (cpu / f"cpufreq/policy{number}/scaling_governor").write_text("ondemand\n" if number else "schedutil\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvpmodel").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (programs / "nvpmodel").chmod(0o755)
    text = requirements.helper().decode()
    for old, new in {
        "CPU=/sys/devices/system/cpu": f"CPU={cpu}",
        "STATE=/run/pipeline-board": f"STATE={tmp_path}/state",
        "PATH=/usr/sbin:": f"PATH={programs}:/usr/sbin:",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    place = tmp_path / "pipeline-board"
    place.write_text(text)

    def run(*words: str) -> SimpleNamespace:
        done = subprocess.run(["sh", str(place), *words], capture_output=True, text=True, check=False)
        found = [path.read_text().strip() for path in sorted(cpu.glob("cpufreq/*/scaling_governor"))]
        return SimpleNamespace(code=done.returncode, said=done.stdout + done.stderr, governors=found)

    return run


def test_the_helper_sets_the_governors_and_puts_each_back(helper: Any) -> None:
    assert helper("performance").governors == ["performance"] * 2
    assert helper("performance").code == 0  # twice: what was first stays remembered
    assert "changed: governors" in helper("status").said
    assert helper("restore").governors == ["schedutil", "ondemand"]
    assert (helper("restore").code, "changed" in helper("status").said) == (0, False)


@pytest.mark.parametrize(
    "words",
    [
        (), ("reboot",), ("performance", "now"), ("nvpmodel",), ("nvpmodel", "10"), ("nvpmodel", "-m"),
        ("nvpmodel", "0; id"), ("--logfile", "/etc/passwd"), ("status", ""), ("restore\nid",),
    ],
)  # fmt: skip
def test_the_helper_takes_its_fixed_verbs_and_nothing_else(helper: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert (helper(*words).code, "usage: " in helper(*words).said) == (2, True)
    assert not (tmp_path / "asked").exists()


def test_the_helper_passes_one_digit_to_nvpmodel(helper: Any, tmp_path: Path) -> None:
    assert helper("nvpmodel", "1").code == 0
    assert (tmp_path / "asked").read_text() == "-m 1\n"


def test_the_helper_says_when_the_board_has_no_such_thing(helper: Any) -> None:
    assert "no jetson_clocks on this board" in helper("clocks").said
