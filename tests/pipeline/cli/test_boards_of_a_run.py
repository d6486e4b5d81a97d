"""One run on several boards: they measure side by side, and neither a lost one nor a kill loses a trial."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Desk, read_until
from tests.scripted_boards import Script, ScriptedBoard, drifting, write_inventory

MEASURE = {
    "warmup_s": 0.01, "min_s": 0.1, "max_s": 0.3, "block_s": 0.01, "ci_rel": 0.5, "processes": 1,
    "max_background_cores": 64,
}  # fmt: skip
SETTINGS = {
    "strategy": "random", "pruning": "{protect: [stem]}", "target": "latency=0.9x",
    "fine_tuning": "{finalists: 1, finalist_epochs: 0.0, epochs: 0.0, min_steps: 0, verify_images: 10}",
}  # fmt: skip


def fleet(desk: Desk, **scripts: Script) -> dict[str, ScriptedBoard]:
    """Boards of these names and scripts, registered as the group ``fleet``."""
    boards = {name: ScriptedBoard(name, desk.folder / "boards" / name, script) for name, script in scripts.items()}
    write_inventory(desk.folder, {name: board.entry for name, board in boards.items()}, MEASURE, channel_step=8)
    return boards


def rows(desk: Desk) -> list[str]:
    """The keys of all that was measured."""
    (path,) = desk.runs.glob("*/run.sqlite")
    with sqlite3.connect(path) as database:
        return [key for (key,) in database.execute("SELECT key FROM measurements")]


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def test_boards_share_a_search_and_a_board_that_dies_and_a_kill_lose_no_trial(desk: Desk) -> None:
    boards = fleet(desk, one=Script(speed=0.9), two=Script(speed=1.1), three=Script(fixed_ms=0.7))
    desk.settings(trials="9", **SETTINGS)
    run = desk.start("run", "--config", "run.yaml", "--device", "group:fleet", "--over-boards", "worst")
    seen = read_until(run, "trial 1:")
    assert "on group:fleet (one, two, three; latency: the slowest board's)" in seen
    boards["three"].die()
    read_until(run, "three is lost, one, two go on: ")
    run.kill()
    run.communicate()
    before = shown(desk)["trials"]

    done = desk.done("run", "--resume", "latest", "--device", "group:fleet")
    assert "three is lost, one, two go on without it" in done.err
    after = shown(desk)
    assert after["trials"][: len(before)] == before
    assert [trial["index"] for trial in after["trials"]] == list(range(9))
    assert [trial["failure"] for trial in after["trials"]] == [None] * 9
    networks = Counter(trial["key"] for trial in after["trials"] if not trial["cached"])
    assert max(networks.values()) == 1
    measured = Counter(key.partition(": ")[2] for key in rows(desk) if key.startswith("board ") and " pass " not in key)
    assert max(n for key, n in measured.items() if "base process" not in key) == 1  # on one board, never on two

    fleet_of = after["fleet"]
    assert (fleet_of["over"], [board["name"] for board in fleet_of["boards"]]) == ("worst", ["one", "two", "three"])
    assert [board["status"] for board in fleet_of["boards"]] == ["measuring", "measuring", "lost"]
    assert all(board["measurements"] > 1 for board in fleet_of["boards"])
    assert fleet_of["components"]["networks"] >= 2
    text = desk.done("runs", "show", "latest").out
    assert re.search(r"^three +✗ lost ", text, re.M)
    assert "latency is the slowest board's; ratios differ by " in text
    report = next(desk.runs.glob("*/report.html")).read_text()
    assert "<h2>Boards</h2>" in report


def test_a_run_whose_boards_are_all_lost_ends_as_that_of_one_does_and_goes_on_when_they_are_back(desk: Desk) -> None:
    boards = fleet(desk, one=Script(), two=Script())
    desk.settings(trials="4", **SETTINGS)
    run = desk.start("run", "--config", "run.yaml", "--device", "one", "--device", "two")
    seen = read_until(run, "trial 0:")
    for board in boards.values():
        board.die()
    _, err = run.communicate(timeout=120)
    assert run.returncode == 1
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.match("error: (one|two): ", error), seen + err
    assert "to resume: pipeline run --resume" in err
    for board in boards.values():
        board.revive()
    desk.done("run", "--resume", "latest")
    assert [trial["failure"] for trial in shown(desk)["trials"]] == [None] * 4


def test_a_board_that_drifts_away_is_quarantined_and_named(desk: Desk) -> None:
    fleet(desk, one=Script(), two=Script(), three=drifting(Script(), a_minute=2.0))
    desk.settings(trials="14", **SETTINGS)
    done = desk.done("run", "--config", "run.yaml", "--device", "group:fleet")
    assert "three is quarantined and measures no more: it drifts away from the others" in done.err
    assert "pipeline devices doctor three" in done.err
    run = shown(desk)
    assert [board["status"] for board in run["fleet"]["boards"]] == ["measuring", "measuring", "quarantined"]
    assert [trial["failure"] for trial in run["trials"]] == [None] * 14


@pytest.fixture
def mixed(desk: Desk) -> Desk:
    """Two boards that are alike, and one of another kind: it computes in earnest."""
    boards = fleet(desk, one=Script(), two=Script(speed=1.2))
    entries = {name: board.entry for name, board in boards.items()}
    entries["other"] = {"kind": "local", "power": None, "agent": {"dir": str(desk.folder / "other")}}
    write_inventory(desk.folder, entries, MEASURE, channel_step=16)
    return desk


ALL_KINDS = ("run", "--config", "run.yaml", "--device", "one", "--device", "other", "--device", "two")


def test_boards_of_several_kinds_get_a_plan_each_of_one_base_model(mixed: Desk) -> None:
    targets = ("--target", "size=0.9x", "--target", "latency=0.95x@other", "--target", "latency=0.9x@two")
    mixed.settings(trials="2", **{**SETTINGS, "weights": "null", "base_training": "{epochs: 3}"})
    done = mixed.done(*ALL_KINDS, *targets, "--output", "bundles")
    assert "kind 1 of 2: local (one, two)" in done.err
    assert "kind 2 of 2: local (other)" in done.err
    assert done.err.count("Train a base model") == 1
    runs = {run["device"]: run for run in mixed.done("runs", "list", "--json").json}
    assert set(runs) == {"one+two", "other"}
    shown = {name: mixed.done("runs", "show", run["id"], "--json").json for name, run in runs.items()}
    asked = {name: sorted(run["config"]["target"]) for name, run in shown.items()}
    assert asked == {"one+two": ["latency=0.9x", "size=0.9x"], "other": ["latency=0.95x", "size=0.9x"]}
    assert shown["one+two"]["base"]["search_accuracy"] == shown["other"]["base"]["search_accuracy"]
    for name, run in runs.items():
        assert (mixed.folder / "bundles" / name / "manifest.json").exists()
        assert run["id"] in done.out
    table = done.out[done.out.index("boards ") :]
    assert re.search(r"^one, two +size=0.9x latency=0.9x +Accuracy", table, re.M)


def test_a_kind_that_comes_to_no_network_leaves_the_others_theirs(mixed: Desk) -> None:
    mixed.settings(trials="2", **SETTINGS)
    done = mixed.do(*ALL_KINDS, "--target", "latency=0.01x@one", "--target", "size=0.95x", "--json")
    assert done.code == 1
    assert "1 of 2 kinds of boards came to no network: one+two: " in done.error
    assert "one+two came to no network (" in done.err
    (run,) = done.json
    assert (run["status"], run["device"]["name"]) == ("finished", "other")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "one", "--device", "other", "--ladder", "2"), "--ladder is of one kind's network"),
        (("--device", "one", "--device", "other", "--model", "none.py:make"), "no such file: none.py"),
        (("--device", "group:fleet", "--device", "one"), "one is named twice"),
        (("--device", "group:fleet", "--record"), "--record keeps one board's answers"),
        (("--device", "one", "--target", "latency=20ms@on"), "measures on no on (did you mean 'one'?); there are: "),
        (("--target", "latency=1x@one", "--target", "latency=2x@one"), "two targets for latency on one"),
        (
            ("--device", "one", "--target", "latency=1x@one", "--target", "latency=2x@local"),
            "targets latency=1x@one and latency=2x@local both hold on one",
        ),
        (("--over-boards", "best"), "over-boards"),
    ],
)
def test_what_cannot_be_one_run_is_said_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    desk = Desk(tmp_path / "desk")
    boards = {name: ScriptedBoard(name, desk.folder / name).entry for name in ("one", "two")}
    write_inventory(desk.folder, {**boards, "other": {"kind": "local", "agent": {"dir": "elsewhere"}}}, MEASURE)
    inventory = (desk.folder / "inventory.yaml").read_text().replace('["one", "two", "other"]', '["one", "two"]')
    desk.write("inventory.yaml", inventory)
    done = desk.do("run", *arguments)
    assert (done.code, said in done.error) == (2, True), done.err
