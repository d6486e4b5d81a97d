"""A user's own sensors and runtimes: what their text says, and every way in which a file can be wrong."""

from __future__ import annotations

import gc
import io
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices import agent_plugins
from pipeline.devices.agent_client import open_agent
from pipeline.devices.agent_plugins import KINDS, Kind, Runtime, Sensor, names, own, packed, runtime_named
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.errors import InventoryError
from pipeline.records import Device, PowerSettings
from tests.recordings import QUICK

SENSOR = "def check(options): ...\ndef open(options): ...\n"
RUNTIME = "def installed(): ...\ndef version(): ...\ndef load(path, options, seed): ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
    return tmp_path


def complaint(folder: Path, name: str, text: str | bytes) -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InventoryError) as caught:
        own(str(folder))
    assert str(folder / name) in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_that_ships_says_what_the_host_can_read(kind: Kind) -> None:
    for name in names(kind):
        assert agent_plugins._said_by_shipped(kind, name) is not None, name


def test_what_ships_says_of_itself_what_the_host_relies_on() -> None:
    assert {"null_engine", "tensorrt"} <= {name for name in names("runtimes") if runtime_named(name, None).builds}
    assert runtime_named("tflite", None).loads == "tflite"
    assert agent_plugins.sensor(Device(name="pi", kind="linux"), "ina219").user_groups == ("i2c",)


def test_a_file_of_ones_own_is_found_beside_those_that_ship(folder: Path) -> None:
    (folder / "power/mine.py").write_text(f"PREFERENCE = 5\nUSER_GROUPS = ['dialout']\n{SENSOR}")
    (folder / "runtimes/mine.py").write_text(f"LOADS = 'tflite'\nINSTALL = 'pip install ' 'mine'\n{RUNTIME}")
    (folder / "runtimes/_shared.py").write_text("")
    (folder / "runtimes/__init__.py").write_text("")
    device = Device(name="pi", kind="linux", runtime="mine", plugins=str(folder))

    assert "mine" in names("power", str(folder))
    assert "mine" not in names("power")
    assert agent_plugins.sensor(device, "mine") == Sensor(PREFERENCE=5, USER_GROUPS=("dialout",))
    assert agent_plugins.runtime(device) == Runtime(LOADS="tflite", INSTALL="pip install mine")
    assert [name for name, _ in packed(str(folder))] == ["power/mine.py", "runtimes/_shared.py", "runtimes/mine.py"]


def test_the_agent_holds_the_files_and_is_named_by_them(folder: Path) -> None:
    (folder / "power/mine.py").write_text(SENSOR)
    before = zipapp(packed(str(folder)))
    (folder / "power/mine.py").write_text(f"# changed\n{SENSOR}")
    after = zipapp(packed(str(folder)))

    assert len({zipapp().sha256, before.sha256, after.sha256}) == 3
    inside = zipfile.ZipFile(io.BytesIO(after.content))
    assert inside.read("device_agents/power/mine.py").decode() == f"# changed\n{SENSOR}"
    assert set(inside.namelist()) - {"device_agents/power/mine.py"} == set(
        zipfile.ZipFile(io.BytesIO(zipapp().content)).namelist()
    )


READY = "def check(options): return 'ok'\ndef open(options): ...\n"


@pytest.mark.parametrize(("preference", "taken"), [("PREFERENCE = 1\n", True), ("PREFERENCE = 2000\n", False)])
def test_auto_takes_a_sensor_of_ones_own_by_its_preference(folder: Path, preference: str, taken: bool) -> None:
    (folder / "power/mine.py").write_text(preference + READY)
    device = Device(name="here", kind="local", agent_dir=str(folder / "agent"), plugins=str(folder))
    with open_agent(replace(device, power=PowerSettings(backend="auto"))) as agent:
        assert (agent.power_backend == "mine") is taken


@pytest.mark.slow
def test_a_runtime_of_ones_own_that_builds_engines_has_the_time_for_it(folder: Path) -> None:
    functions = "from device_agents.runtimes.null_engine import build, installed, load, recipe, version\n"
    device = Device(name="here", kind="local", agent_dir=str(folder / "agent"), measure=QUICK, plugins=str(folder))
    waits = []
    for name, says in (("plain", ""), ("builder", "BUILDS = True\n")):
        (folder / f"runtimes/{name}.py").write_text(says + functions)
        with open_agent(replace(device, runtime=name)) as agent:
            waits.append(agent._build_s(QUICK))
            if says:
                assert agent.measure(b'{"ms": 1.0, "build_ms": 10}').runtime.startswith("builder ")
    assert waits == [0.0, QUICK.build_timeout_s]


@pytest.mark.sshd
def test_over_ssh_a_changed_file_is_a_new_agent(sshd: Any, folder: Path) -> None:
    for state in ("ok", "no such chip"):
        (folder / "power/mine.py").write_text(READY.replace("ok", state))
        with open_agent(sshd.device(plugins=str(folder))) as agent:
            assert agent.facts.sensors["mine"] == state


def test_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    assert packed(str(tmp_path)) == packed(None) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def check(options:\n", "power/mine.py:1: not Python: '(' was never closed (as Python 3."),
        ("x = 1\n  y = 2\n", "power/mine.py:2: not Python: unexpected indent"),
        (b"\xff\xfe", "power/mine.py:1: not Python: "),
        ("x = 1\0", "power/mine.py:1: not Python: "),
        ("-" * 100_000 + "1", "power/mine.py:1: not Python: "),
        ("def check(options): ...\n", "no function open; a sensor's file has check, open: see docs/extending"),
        ("", "has no function check"),
        (f"{SENSOR}PREFERENCE = 7 * 10\n", "power/mine.py:3: PREFERENCE is computed; write it out"),
        (f"{SENSOR}if True:\n    PREFERENCE = 7\n", "PREFERENCE is computed; write it out"),
        (f"{SENSOR}PREFERENCE, X = 7, 8\n", "PREFERENCE is computed; write it out"),
        (f"{SENSOR}PREFERENCE = 'first'\n", "PREFERENCE: Input should be a valid integer; see docs/extending"),
        (f"{SENSOR}USER_GROUPS = 'i2c'\n", "USER_GROUPS: Input should be a valid tuple"),
        (f"{SENSOR}USER_GROUPS = ['i2c; reboot']\n", "USER_GROUPS.0: String should match"),
        (f"{SENSOR}SETUP = [{{'when': 'x'}}]\n", "SETUP.0.command: Field required"),
        (f"{SENSOR}SETUP = [{{'when': 'x', 'command': 'a\\nb'}}]\n", "SETUP.0.command: String should match"),
        (f"{SENSOR}SETUP = [{{'when': 'x', 'command': 'a', 'wen': 'b'}}]\n", "SETUP.0.wen: Extra inputs"),
    ],
)  # fmt: skip
def test_a_sensor_s_file_that_is_wrong_is_refused_with_its_place(folder: Path, text: str | bytes, said: str) -> None:
    assert said in complaint(folder, "power/mine.py", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def installed(): ...\n", "has no function version; a runtime's file has installed, version, load: see"),
        (f"BUILDS = True\n{RUNTIME}", "has no function recipe; a runtime's file has installed, version, load, recipe"),
        (f"BUILDS = 1\n{RUNTIME}", "BUILDS: Input should be a valid boolean; see docs/extending/runtime.md"),
        (f"LOADS = 'ncnn'\n{RUNTIME}", "LOADS: there is no format 'ncnn' (did you mean 'onnx'?); known: onnx, tflite"),
        (f"ONNX_LIMITS = {{'new': (1, 2)}}\n{RUNTIME}", "ONNX_LIMITS"),
        (f"NAME = 'x'\nINSTALL = 'pip install ' + NAME\n{RUNTIME}", "mine.py:2: INSTALL is computed; write it out"),
    ],
)
def test_a_runtime_s_file_that_is_wrong_is_refused_with_its_place(folder: Path, text: str, said: str) -> None:
    assert said in complaint(folder, "runtimes/mine.py", text)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("power/ina219.py", "would hide the sensor ina219 that ships; rename it, for example to my_ina219.py"),
        ("runtimes/null.py", "would hide the runtime null that ships"),
        ("runtimes/_feed.py", "would hide the runtime _feed that ships; rename it, for example to my_feed.py"),
        ("power/settings.py", "would hide 'settings', which has a meaning already"),
        ("runtimes/contextlib.py", "would hide 'contextlib', which has a meaning already"),
        ("power/auto.py", "would hide 'auto', which has a meaning already"),
        ("power/my-meter.py", "a sensor's name holds letters, digits and '_' only; rename the file"),
    ],
)
def test_a_name_that_would_hide_something_is_refused(folder: Path, name: str, said: str) -> None:
    assert said in complaint(folder, name, SENSOR + RUNTIME)


def test_functions_may_come_from_anywhere_in_the_file(folder: Path) -> None:
    text = "from device_agents.power.hwmon import check\ntry:\n    open = None\nexcept ImportError:\n    pass\n"
    (folder / "power/mine.py").write_text(text)
    (folder / "power/other.py").write_text("from device_agents.power.hwmon import *\n")
    assert [file.name for file in own(str(folder))] == ["mine", "other"]


def test_what_is_no_ordinary_file_or_far_too_much_is_refused(folder: Path) -> None:
    assert "at most 262 kB are read; fix it" in complaint(folder, "power/mine.py", "#" * 300_000)
    (folder / "power/mine.py").unlink()
    (folder / "power/mine.py").mkdir()
    with pytest.raises(InventoryError, match=r"power/mine.py cannot be read: Is a directory"):
        own(str(folder))
    (folder / "power/mine.py").rmdir()
    for number in range(60):
        (folder / f"power/mine{number}.py").write_text(SENSOR)
    with pytest.raises(InventoryError, match=r"power has 60 files, at most 50 are packed"):
        own(str(folder))


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns every microsecond, while garbage is collected, too."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    busy = lambda *_: sum(range(50))  # noqa: E731
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    gc.callbacks.append(busy)
    yield
    gc.callbacks.remove(busy)
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_boards_that_are_opened_side_by_side_may_all_read_it_at_once(folder: Path) -> None:
    """CPython 3.11 raises SystemError where several threads parse and change filters of warnings at once."""
    more = "def more(value):\n    return [[each + 1 for each in range(value)] for value in range(3)]\n" * 40
    (folder / "runtimes/mine.py").write_text(RUNTIME + more)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: own(str(folder)), range(200)))
    assert {file.name for files in found for file in files} == {"mine"}
