"""The agent's command line, and what each of its processes does without so as to stay small and answer soon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import device_agents
from device_agents.__main__ import options
from device_agents.protocol import VERSION

HEAVY = {"argparse", "bz2", "ctypes", "lzma", "platform", "shutil", "subprocess", "threading", "zipfile"}

PROGRAM = """
import sys
from device_agents.__main__ import main
main(sys.argv[1:])
sys.stderr.write(" ".join(sys.modules))
"""


def imported(tmp_path, words, message):
    """Run the agent on one line, on a board without any program; return its answers and the modules it imported."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, *words],
        input=json.dumps({"v": VERSION, **message}).encode() + b"\n",
        capture_output=True,
        env={"PYTHONPATH": str(Path(device_agents.__file__).parents[1]), "PATH": str(tmp_path)},
        check=True,
        cwd=tmp_path,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], set(done.stderr.decode().split())


def test_hello_is_answered_without_what_only_measuring_needs(tmp_path):
    (answer,), modules = imported(tmp_path, ["--dir", str(tmp_path)], {"id": 1, "verb": "hello"})

    assert answer["result"]["sensors"]["null"]
    assert not modules & (HEAVY | {f"device_agents.{name}" for name in ("measure", "processes", "files", "cudart")})


def test_a_sampler_carries_only_its_sensor(tmp_path):
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    for name, text in (("name", "ina219"), ("in1_input", "5000"), ("curr1_input", "500"), ("shunt_resistor", "100000")):
        (chip / name).write_text(text)
    job = {"backend": "hwmon", "options": {"root": str(tmp_path), "shunt_ohms": 0.1}}
    (about, *samples), modules = imported(tmp_path, ["sampler"], job)

    assert about["sensor"]["source"] == "hwmon ina219"
    assert all(w == 2.5 for sample in samples for w in sample["w"])
    assert not modules & (HEAVY | {f"device_agents.{name}" for name in ("measure", "processes", "board", "serve")})
    assert {name for name in modules if name.startswith("device_agents.power.")} == {
        "device_agents.power._sysfs",
        "device_agents.power.hwmon",
    }


@pytest.mark.parametrize(
    ("words", "folder", "quota"),
    [
        ([], "~/.cache/pipeline-agent", "512"),
        (["--dir", "/a b"], "/a b", "512"),
        (["--quota-mb=3", "--dir=x=y"], "x=y", "3"),
    ],
)
def test_options_are_read_with_and_without_an_equals_sign(words, folder, quota):
    assert options(words) == {"--dir": folder, "--quota-mb": quota}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--dri", "x"], "'--dri': no such option"),
        (["x"], "'x': no such option"),
        (["--dir"], "'--dir': no such option, or its value is missing"),
        (["--quota-mb", "1.5"], "--quota-mb is '1.5', expected a whole number"),
    ],
)
def test_a_wrong_option_is_named_and_the_right_ones_are_shown(words, complaint):
    with pytest.raises(SystemExit, match=complaint) as caught:
        options(words)

    assert "usage:" in str(caught.value)
    assert os.linesep in str(caught.value)
