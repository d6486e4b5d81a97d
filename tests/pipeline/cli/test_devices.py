"""`devices doctor` and `devices setup`, and a run that waits for its board: the real command line."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from device_agents.lock import Lock
from pipeline.devices.agent_client import open_agent
from pipeline.records import Device
from pipeline.store import Store
from pipeline.store.facts import MODES
from tests.command_line import FEW_CUTS, Desk, finished, read_until
from tests.device_agents.boards import FolderBoard
from tests.hostile_answers import steers
from tests.recordings import recorded

KIND = """
summary: a board that lacks a runtime
session: local
runtime: other
fixes: {"runtime other": "echo brought > FOLDER/brought; echo it was brought", sensor: "# buy one"}
"""


@pytest.fixture
def lacking(tmp_path: Path) -> Desk:
    """A device whose kind says how its missing runtime is brought."""
    desk = Desk(tmp_path / "desk")
    desk.write("inventory.yaml", "version: 1\ndevices:\n  bare: {kind: bare, agent: {dir: agent}}\n")
    (desk.folder / "profiles").mkdir()
    (desk.folder / "plugins/runtimes").mkdir(parents=True)
    desk.write("profiles/bare.yaml", KIND.replace("FOLDER", str(desk.folder)))
    desk.write("plugins/runtimes/other.py", "def installed(): ...\ndef version(): ...\ndef load(*_): ...\n")
    return desk


def test_doctor_tells_what_is_good_doubtful_and_bad_each_with_its_fix(board: FolderBoard, tmp_path: Path) -> None:
    board.program("vcgencmd", "#!/bin/sh\necho throttled=0x50005\n")
    desk = Desk(tmp_path / "desk")
    done = desk.do("devices", "doctor", "local", "--seconds", "1")

    assert done.code == 1
    assert "✓ agent " in done.out
    assert "! clock         governor ondemand" in done.out
    assert "→ `modes: {governor: performance}` in the inventory" in done.out
    assert "✗ throttling    now: under-voltage, throttled" in done.out
    assert "5.1 V, 3 A supply" in done.out


def test_doctor_s_json_has_a_level_for_each_finding(board: FolderBoard, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    desk.write("inventory.yaml", "version: 1\ndevices: {local: {kind: local, power: null, modes: {governor: turbo}}}\n")
    found = {f["name"]: f for f in desk.done("devices", "doctor", "local", "--seconds", "1", "--json").json}

    assert (found["mode governor"]["level"], "turbo" in found["mode governor"]["detail"]) == ("warn", True)
    assert found["agent"]["level"] == "ok"


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[red]evil[/bold] :bomb:"


def test_whatever_a_board_and_its_holder_are_called_is_shown_as_text(board: FolderBoard, tmp_path: Path) -> None:
    for path in ("proc/device-tree/model", "etc/os-release"):
        (board.root / path).parent.mkdir(parents=True, exist_ok=True)
    (board.root / "proc/device-tree/model").write_text(EVIL)
    (board.root / "etc/os-release").write_text(f'PRETTY_NAME="{EVIL}"\n')
    board.governors = EVIL
    held, desk = Lock(), Desk(tmp_path / "desk")
    assert held.take(EVIL) is None
    try:
        check, doctor, told = (
            desk.do("devices", *verb) for verb in
            (("check", "local"), ("doctor", "local", "--seconds", "1"), ("check", "local", "--json"))
        )  # fmt: skip
    finally:
        held.give()

    name = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e[red]evil[/bold] :bomb:"
    holder = "".join(sign if sign.isprintable() else "?" for sign in EVIL)
    for text in (check.out, doctor.out):
        assert f"on {name}" in text
        assert f"held by {holder} (pid " in text
    assert not any(steers(text) for done in (check, doctor, told) for text in (done.out, done.err))
    assert name in {f["name"]: f["detail"] for f in told.json}["python"]


def test_setup_prints_a_script_and_changes_nothing(lacking: Desk) -> None:
    done = lacking.done("devices", "setup", "bare")

    assert done.out.startswith("# What bare lacks")
    assert "# 1. the runtime other is installed\necho brought > " in done.out
    assert "--apply" in done.err
    assert not (lacking.folder / "brought").exists()


def test_setup_apply_runs_it_says_what_it_said_and_checks_again(lacking: Desk) -> None:
    done = lacking.do("devices", "setup", "bare", "--apply", "--yes")

    assert (lacking.folder / "brought").read_text() == "brought\n"
    assert "it was brought" in done.err
    assert (done.code, "✗ runtime" in done.out) == (1, True)  # an echo installs nothing


def test_setup_apply_asks_first(lacking: Desk) -> None:
    done = lacking.do("devices", "setup", "bare", "--apply")

    assert (done.code, "nothing was changed" in done.err) == (1, True)
    assert not (lacking.folder / "brought").exists()


def test_setup_stops_at_the_first_command_that_fails(lacking: Desk) -> None:
    lacking.write("profiles/bare.yaml", KIND.replace("echo brought > FOLDER/brought", "false"))
    done = lacking.do("devices", "setup", "bare", "--apply", "--yes")

    assert (done.code, "a command ended with 1" in done.error, "it was brought" in done.err) == (1, True, False)


def test_setup_has_nothing_to_say_about_a_board_that_lacks_nothing(tmp_path: Path) -> None:
    done = Desk(tmp_path / "desk").done("devices", "setup", "local")

    assert (done.out, "lacks nothing" in done.err) == ("", True)
    assert Desk(tmp_path / "desk").done("devices", "setup", "local", "--json").json["lacking"] == []


@pytest.fixture
def tape(tmp_path: Path) -> Desk:
    """A device that plays a recording back: what a board that was this machine answered."""
    desk = Desk(tmp_path / "desk")
    recorded(desk.folder, lambda _: None)
    desk.write("inventory.yaml", "version: 1\ndevices:\n  tape: {kind: replay, recording: recording.jsonl.gz}\n")
    return desk


def test_devices_list_says_of_a_replayed_device_which_file_it_plays(tape: Desk) -> None:
    assert "plays recording.jsonl.gz" in " ".join(tape.done("devices", "list").out.split())
    local, told = tape.done("devices", "list", "--json").json
    assert (told["name"], told["address"], told["recording"]) == ("tape", None, "recording.jsonl.gz")
    assert local["recording"] is None


@pytest.mark.parametrize("verb", ["setup", "doctor", "trust"])
def test_a_recording_is_no_board_to_be_fixed_watched_or_trusted(tape: Desk, verb: str) -> None:
    refused = tape.do("devices", verb, "tape")
    assert refused.code == 2
    assert "tape plays the recording recording.jsonl.gz: there is no board" in refused.error


def test_a_run_says_who_holds_the_board_and_goes_on_when_it_is_free(desk: Desk, board: FolderBoard) -> None:
    with open_agent(Device(name="here", kind="local", agent_dir=str(desk.folder / "other"))) as other:
        other.hold()
        desk.settings(**FEW_CUTS)
        run = desk.start("run", "--config", "run.yaml", "--trials", "1", "--epochs", "0.1", "--target", "size=0.9x")
        read_until(run, "waiting: the board is held by ")
    done = finished(run)
    assert done.code == 0, done.err


def test_a_run_that_is_stopped_while_it_waits_for_the_board_ends_and_leaves_nothing(
    desk: Desk, board: FolderBoard
) -> None:
    with open_agent(Device(name="here", kind="local", agent_dir=str(desk.folder / "other"))) as other:
        other.hold()
        run = desk.start("run", "--config", "run.yaml")
        read_until(run, "waiting: the board is held by ")
        run.send_signal(signal.SIGINT)
        done = finished(run)
    assert done.code == 130
    assert "stopped while waiting for the board" in done.err
    assert not desk.runs.exists()


def test_a_run_keeps_the_modes_that_it_ran_in_and_puts_them_back(desk: Desk, board: FolderBoard) -> None:
    desk.settings(**FEW_CUTS)
    text = (desk.folder / "inventory.yaml").read_text()
    desk.write(
        "inventory.yaml", text.replace("power: null", "power: null, modes: {governor: performance, nvpmodel: 0}")
    )
    run = desk.start("run", "--config", "run.yaml", "--trials", "1", "--epochs", "0.1", "--target", "size=0.9x")
    assert "power mode nvpmodel not set: this board has no nvpmodel" in read_until(run, "trial 0:")
    assert board.governors == {"performance"}
    done = finished(run)
    assert done.code == 0, done.err

    assert board.governors == {"ondemand"}
    (run_id,) = [entry.name for entry in desk.runs.iterdir() if entry.is_dir()]
    with Store.open(desk.runs, run_id) as store:
        modes = store.get(MODES)
    assert modes["applied"] == {"governor": "performance"}
    assert "nvpmodel" in modes["refused"]["nvpmodel"]
