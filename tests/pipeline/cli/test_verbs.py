"""Every verb on good input, by the real command line."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.command_line import COMMAND, PATIENCE_S, REPOSITORY, Desk, eventually, finished


@pytest.fixture(scope="session")
def shown(ran: Desk) -> dict[str, Any]:
    run: dict[str, Any] = ran.done("runs", "show", "latest", "--json").json
    return run


def test_init_writes_files_that_the_other_verbs_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = desk.done("init", "fresh")
    assert "pipeline devices trust" in done.out
    listed = desk.done("devices", "list", "--inventory", "fresh/inventory.yaml", "--json").json
    assert [device["name"] for device in listed] == ["local"]
    error = desk.do("run", "--config", "fresh/run.yaml", "--trials", "0").error
    assert "--trials" in error  # run.yaml was read before


def test_init_tells_a_script_what_it_wrote(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.done("init", "a", "--json").json == {"inventory.yaml": "a/inventory.yaml", "run.yaml": "a/run.yaml"}
    assert (tmp_path / "a" / "run.yaml").exists()
    written = desk.done("init", "b", "--inventory", "elsewhere.yaml", "--json").json
    assert written["inventory.yaml"] == "elsewhere.yaml"


def test_init_replaces_nothing_without_force(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    refused = desk.do("init")
    assert refused.code == 2
    assert "inventory.yaml, run.yaml is there already; --force replaces it" in refused.error
    desk.done("init", "--force")
    assert "version: 1" in (tmp_path / "inventory.yaml").read_text()


def test_devices_list_shows_each_device_with_its_address(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    inventory = "version: 1\ndevices:\n  pi: {kind: raspberry-pi-4, host: 'pi@pi.local:2222', tags: [lab]}\n"
    desk.write("boards.yaml", inventory)
    local, pi = desk.done("devices", "list", "--inventory", "boards.yaml", "--json").json
    assert (local["name"], local["address"]) == ("local", None)
    assert (pi["kind"], pi["address"], pi["tags"]) == ("raspberry-pi-4", "pi@pi.local:2222", ["lab"])
    table = desk.done("devices", "list", "--inventory", "boards.yaml").out
    assert re.search(r"pi +raspberry-pi-4 +pi@pi\.local:2222 +onnxruntime +not measured +lab", table)


def test_a_device_that_is_out_of_use_is_told_and_stops_no_command_for_another_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("inventory.yaml", "version: 1\ndevices:\n  odd: {host: a, kind: raspbery-pi-4}\n")
    local, odd = desk.done("devices", "list", "--json").json
    assert (local["name"], local["problem"], odd["name"]) == ("local", None, "odd")
    assert "inventory.yaml:3: devices.odd.kind: unknown kind (did you mean 'raspberry-pi-4'?)" in odd["problem"]
    assert "✗ odd is out of use: inventory.yaml:3: devices.odd.kind" in desk.done("devices", "list").out
    assert "✓ runtime" in desk.done("devices", "check", "local").out
    refused = desk.do("devices", "check", "odd")
    assert (refused.code, "unknown kind" in refused.error) == (2, True)


def test_devices_check_passes_on_this_machine(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    findings = desk.done("devices", "check", "local", "--inventory", "inventory.yaml", "--json").json
    assert {f["name"]: f["ok"] for f in findings}["runtime"] is True
    assert "✓ runtime" in desk.done("devices", "check", "local").out


def test_devices_check_fails_with_the_fix_where_a_runtime_is_missing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("inventory.yaml", "version: 1\ndevices: {local: {kind: local, runtime: tensorrt}}\n")
    checked = desk.do("devices", "check", "local")
    assert checked.code == 1
    assert "✗ runtime" in checked.out
    assert "python3-libnvinfer" in checked.out


def test_a_run_without_a_terminal_prints_plain_lines_and_pure_json(ran: Desk) -> None:
    run = json.loads((ran.folder / "run.json").read_text())
    assert run["status"] == "finished"
    progress = (ran.folder / "run.err").read_text()
    assert "\x1b" not in progress
    assert [int(n) for n in re.findall(r"trial (\d+): accuracy", progress)] == [0, 1, 2, 3]


def test_runs_list_gives_trials_as_a_number(ran: Desk) -> None:
    (run,) = ran.done("runs", "list", "--json", "--inventory", "inventory.yaml").json
    assert (run["trials"], run["device"], run["status"]) == (4, "local", "finished")
    table = ran.done("runs", "list").out
    assert re.search(rf"{run['id']} +finished +local +net.py:Net +digits +latency=0.5x +4", table)


def test_runs_list_has_the_newest_last(desk: Desk) -> None:
    for name in ("20260101-000000-digits-local", "20250101-000000-digits-local"):
        (desk.runs / name).mkdir(parents=True)
    assert [run["id"][:4] for run in desk.done("runs", "list", "--json").json] == ["2025", "2026"]


def test_runs_list_without_runs_says_how_to_start_one(tmp_path: Path) -> None:
    done = Desk(tmp_path).done("runs", "list")
    assert "no runs in runs; `pipeline run` starts one" in done.out
    assert Desk(tmp_path).done("runs", "list", "--json").json == []


def test_runs_show_gives_every_trial_with_plan_reward_and_measurement(shown: dict[str, Any]) -> None:
    assert [trial["index"] for trial in shown["trials"]] == [0, 1, 2, 3]
    for trial in shown["trials"]:
        assert len(trial["plan"]["levels"]) == 3
        assert trial["measurement"]["p50_ms"]["value"] > 0
        assert trial["reward"] == pytest.approx(sum(trial["terms"].values()))
        assert {"ask", "cut", "accuracy", "export", "measure"} <= trial["seconds"].keys()


def test_runs_show_prints_trials_front_and_comparison(ran: Desk, shown: dict[str, Any]) -> None:
    text = ran.done("runs", "show", shown["id"][:18]).out
    assert text.count("★") == 2  # one trial, and the legend
    assert "◆ Pareto front" in text
    assert re.search(r"Latency, median +[\d.]+ ms ±[\d.]+ +[\d.]+ ms ±[\d.]+ +0\.\d+×", text)
    assert re.search(r"Power +not measured +not measured", text)


def test_the_chosen_network_meets_the_target_as_measured_in_one_piece(shown: dict[str, Any]) -> None:
    (chosen,) = [a for a in shown["artifacts"] if a["chosen"]]
    assert chosen["id"] == shown["chosen"]
    assert chosen["after"]["measurement"]["ratio"]["value"] <= 0.5
    assert chosen["device_accuracy"] == chosen["host_accuracy"]


def test_pull_writes_a_bundle_whose_checksums_are_right(ran: Desk, tmp_path: Path, shown: dict[str, Any]) -> None:
    (written,) = ran.done("pull", "latest", "--output", str(tmp_path / "b"), "--json", "--inventory", "none.yaml").json
    folder = Path(written["folder"])
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["run"]["id"] == shown["id"]
    assert len((folder / "labels.txt").read_text().split()) == 10
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))


def test_pull_of_the_front_writes_a_folder_for_each(ran: Desk, tmp_path: Path) -> None:
    done = ran.done("pull", "latest", "--artifact", "pareto", "--output", str(tmp_path / "front"))
    names = sorted(folder.name for folder in (tmp_path / "front").iterdir())
    assert names
    assert all(f"✓ {name} →" in done.out for name in names)


def test_pull_takes_an_artifact_by_its_id(ran: Desk, tmp_path: Path, shown: dict[str, Any]) -> None:
    brief = shown["artifacts"][0]["id"]
    ran.done("pull", "latest", "--artifact", brief, "--output", str(tmp_path / "brief"))
    assert json.loads((tmp_path / "brief" / "manifest.json").read_text())["run"]["artifact"] == brief


def test_profile_measures_a_pulled_file(ran: Desk, tmp_path: Path) -> None:
    ran.done("pull", "latest", "--output", str(tmp_path / "b"))
    model = str(tmp_path / "b" / "model.onnx")
    measured = ran.done("profile", model, "--device", "local", "--inventory", "inventory.yaml", "--json").json
    assert measured["p50_ms"]["low"] <= measured["p50_ms"]["value"] <= measured["p50_ms"]["high"]
    assert measured["power"] is None
    text = ran.done("profile", model).out
    assert re.search(r"latency p50 +[\d.]+ \[[\d.]+, [\d.]+\] ms", text)
    assert re.search(r"power +not measured", text)


def test_help_and_lists_come_without_torch(ran: Desk) -> None:
    script = (
        "import sys; sys.argv[1:] = {!r}.split()\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {{'torch', 'scipy', 'onnx', 'sklearn'}} & sys.modules.keys(), sys.modules.keys()"
    )
    for words in ("--help", "devices list", "runs list", "runs show latest"):
        done = subprocess.run(
            [COMMAND[0], "-c", script.format(words)], cwd=ran.folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_help_names_every_verb(tmp_path: Path) -> None:
    text = Desk(tmp_path).done("--help").out
    assert all(verb in text for verb in ("init", "devices", "profile", "run", "runs", "pull"))


def test_on_a_terminal_the_run_shows_progress_eta_best_and_last(desk: Desk) -> None:
    near, far = pty.openpty()
    desk.settings(trials="3", target="size=0.95x")
    run = desk.start_cold("run", "--config", "run.yaml", stderr=far, stdout=subprocess.PIPE, start_new_session=True)
    os.close(far)
    seen = _everything(near)
    assert finished(run).code == 0
    assert re.search(r"eta", seen)
    assert re.search(r"last: accuracy [\d.]+%, [\d.]+× of base", seen)
    assert re.search(r"best: accuracy", seen)
    assert "✓" in seen
    assert seen.rstrip().endswith(" s\x1b[0m")  # the last stage's line; the live view is gone
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # a cursor hidden is shown again


def _everything(terminal: int) -> str:
    seen = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how a terminal says that nobody writes any more
            break
        if not part:
            break
        seen += part
    os.close(terminal)
    return seen.decode("utf-8", "replace")


def test_a_closed_terminal_does_not_spoil_what_was_measured(desk: Desk) -> None:
    near, far = pty.openpty()
    desk.settings(trials="40")
    own = {"stdin": far, "stdout": far, "stderr": far, "start_new_session": True}
    run = desk.start_cold("run", "--config", "run.yaml", **own, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY))
    os.close(far)
    seen = b""
    while b"last: accuracy" not in seen:
        seen += os.read(near, 4096)
    os.close(near)  # the kernel tells whoever the terminal belonged to: SIGHUP
    assert eventually(lambda: run.poll() is not None, PATIENCE_S)
    assert run.returncode == 130
    (listed,) = desk.done("runs", "list", "--json").json
    assert listed["status"] == "interrupted"
    assert listed["trials"] >= 1


def test_help_waits_for_no_heavy_library() -> None:
    look = "import sys, pipeline.cli; print(*sorted({'torch', 'onnx', 'onnxruntime', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
