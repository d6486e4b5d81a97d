"""Runs that are stopped, killed or lose their agent: nothing is lost, nothing is measured twice."""

from __future__ import annotations

import json
import math
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.command_line import FEW_CUTS, PATIENCE_S, Desk, agents, eventually, finished, read_until
from tests.killing import SETTINGS, answers, begin_or_resume, uninterrupted

SLOW = """
version: 1
devices:
  local: {kind: local, power: null, channel_step: 16, agent: {dir: AGENT}, measure: MEASURE}
"""
MEASURE = "{warmup_s: 0.02, min_s: 0.1, max_s: 0.3, block_s: 0.01, ci_rel: 0.2, processes: 1, max_background_cores: 64}"


@pytest.fixture
def slow(desk: Desk) -> Desk:
    """A folder in which a measurement takes most of a trial, so that a signal comes in the middle of one."""
    desk.write("inventory.yaml", SLOW.replace("AGENT", str(desk.folder / "agent")).replace("MEASURE", MEASURE))
    desk.settings(trials="6", target="size=0.9x", **FEW_CUTS)
    return desk


ONE_FINALIST = "{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 20}"


def measured(desk: Desk) -> dict[str, str]:
    """Every measurement that the only run has stored: name → what was found."""
    (folder,) = desk.runs.iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        return dict(database.execute("SELECT key, json FROM measurements").fetchall())


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def nothing_left(desk: Desk) -> bool:
    """No process works in this folder's agent directory any more."""
    folder = str(desk.folder / "agent")
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return not any(folder in line for line in lines)


@pytest.mark.slow
def test_a_killed_run_is_interrupted_and_resumes_with_nothing_measured_twice(slow: Desk) -> None:
    run = slow.begin()
    run.kill()
    finished(run)
    (listed,) = slow.done("runs", "list", "--json").json
    assert listed["status"] == "interrupted"
    assert "to resume: pipeline run --resume" in slow.done("runs", "show", "latest").out
    before, trials = measured(slow), shown(slow)["trials"]
    assert len(trials) >= 2
    assert eventually(lambda: nothing_left(slow), PATIENCE_S)  # the agent ended with its host

    resumed = slow.done("run", "--resume", listed["id"])
    after, whole = measured(slow), shown(slow)
    assert whole["status"] == "finished"
    assert whole["trials"][: len(trials)] == trials
    assert [trial["index"] for trial in whole["trials"]] == list(range(6))
    assert {key: after[key] for key in before} == before
    assert resumed.err.count("(known)") == len(trials)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_workers_end_with_a_run_that_is_stopped_or_killed(slow: Desk, number: signal.Signals, code: int) -> None:
    slow.settings(trials="40", target="size=0.9x", **FEW_CUTS)
    run = slow.begin("--workers", "2")
    workers = [child for child in psutil.Process(run.pid).children() if "process_main" in " ".join(child.cmdline())]
    assert workers
    run.send_signal(number)
    assert finished(run).code == code
    assert eventually(lambda: not any(worker.is_running() for worker in workers))


def test_a_killed_agent_is_started_anew_and_the_run_goes_on(slow: Desk) -> None:
    slow.settings(trials="4", target="size=0.9x", **FEW_CUTS, fine_tuning=ONE_FINALIST)
    run = slow.begin()
    for agent in agents(run):
        agent.kill()
    done = finished(run)
    assert done.code == 0
    trials = shown(slow)["trials"]
    assert [trial["index"] for trial in trials] == list(range(4))
    assert all(trial["failure"] is None for trial in trials)


def test_asked_once_to_stop_the_run_finishes_its_trial_and_says_how_to_resume(slow: Desk) -> None:
    slow.settings(trials="40", target="size=0.9x", **FEW_CUTS)
    run, done_before = slow.begin(), 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        known = len(agents(run))
        run.send_signal(number)
        done = finished(run)
        assert (known > 0, done.code) == (True, 130)
        (listed,) = slow.done("runs", "list", "--json").json
        assert listed["status"] == "interrupted"
        assert done_before <= listed["trials"] < 40
        assert f"to resume: pipeline run --resume {listed['id']}" in done.err
        assert "stopped as requested" in done.err
        assert "Traceback" not in done.err
        assert eventually(lambda: nothing_left(slow), PATIENCE_S)
        run, done_before = slow.start("run", "--resume", "latest"), listed["trials"] + 1
        read_until(run, f"trial {listed['trials']}:")
    run.kill()
    finished(run)


def test_asked_twice_the_run_stops_at_once(desk: Desk) -> None:
    long = MEASURE.replace("min_s: 0.1, max_s: 0.3", "min_s: 3000, max_s: 4000, timeout_s: 9000")
    desk.write("inventory.yaml", SLOW.replace("AGENT", str(desk.folder / "agent")).replace("MEASURE", long))
    run = desk.start_cold("run", "--config", "run.yaml")
    read_until(run, "Measure the base model")
    run.send_signal(signal.SIGINT)
    read_until(run, "Ctrl-C again stops at once")
    run.send_signal(signal.SIGINT)
    assert finished(run).code == 130  # the measurement takes an hour
    assert eventually(lambda: nothing_left(desk), PATIENCE_S)


@pytest.mark.slow
def test_a_run_killed_while_it_fine_tunes_does_not_repeat_finished_finalists(slow: Desk) -> None:
    two = ONE_FINALIST.replace("finalists: 1", "finalists: 2")
    slow.settings(trials="6", target="size=0.9x", **FEW_CUTS, fine_tuning=two)
    run = slow.start("run", "--config", "run.yaml")
    first = read_until(run, "Fine-tune finalist").splitlines()[-1]
    second = read_until(run, "Fine-tune finalist").splitlines()[-1]
    run.kill()
    finished(run)
    resumed = slow.done("run", "--resume", "latest")
    assert (first in resumed.err, second in resumed.err) == (False, True)
    assert len(shown(slow)["artifacts"]) == 3  # both, and one of them in full


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_at_every_stage_asks_its_board_nothing_twice_and_comes_to_the_same_end(desk: Desk) -> None:
    short = "{finalists: 1, finalist_epochs: 0.5, epochs: 0.5, min_steps: 30}"
    desk.settings(**{**SETTINGS, "trials": "3", "base_training": "{epochs: 1}", "fine_tuning": short})
    stages = (
        "Load digits", "Train a base model", "Measure the base model", "Measure single cuts", "trial 1:",
        "Fine-tune finalist", "Measure the whole file", "Fine-tune the chosen one",
    )  # fmt: skip
    for stage in stages:
        soon = lambda line, stage=stage: 0.3 if stage in line else math.inf  # noqa: E731
        assert begin_or_resume(desk, soon, cold=False)
    assert begin_or_resume(desk, lambda _: math.inf, cold=False) is None
    assert answers(desk).twice == 0
    killed, whole = uninterrupted(desk)  # in another interpreter than the one that ran first
    assert killed == whole


def test_a_run_whose_code_has_changed_is_not_gone_on_with_before_anything_is_loaded(slow: Desk) -> None:
    run = slow.start("run", "--config", "run.yaml")
    read_until(run, "Measure the base model")
    run.kill()
    finished(run)
    before = (slow.folder / "net.py").read_text()
    slow.write("net.py", before.replace("relu()", "sigmoid()"))
    refused = slow.do("run", "--resume", "latest")
    assert (refused.code, "Load torch" in refused.err) == (2, False)
    assert f"began with another {slow.folder / 'net.py'}, which has changed: its SHA-256 was" in refused.error
    assert "put it back as it was, or start a new run" in refused.error
    slow.write("net.py", before)
    resumed = slow.start("run", "--resume", "latest")
    read_until(resumed, "Measure the base model")
    resumed.kill()
    finished(resumed)


def test_a_half_made_run_hides_no_run_that_can_be_gone_on_with(desk: Desk, ran: Desk) -> None:
    without_trials(desk, ran, 4)
    (good,) = desk.runs.iterdir()
    (desk.runs / "29990101-000000-digits-local").mkdir()
    shown = desk.done("runs", "show", "latest")
    assert good.name in shown.out
    assert "29990101-000000-digits-local is damaged: it has no run.sqlite" in shown.err


def without_trials(desk: Desk, ran: Desk, keep: int) -> None:
    """Copy the finished run as it was after ``keep`` trials, with all its measurements."""
    shutil.copytree(ran.runs, desk.runs)
    (folder,) = desk.runs.iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("DELETE FROM trials WHERE number >= ?", (keep,))
        database.execute("DELETE FROM artifacts")
        database.execute("DELETE FROM facts WHERE key IN ('chosen', 'finished', 'winner 1')")
        database.execute("UPDATE facts SET json = '\"running\"' WHERE key = 'status'")


@pytest.mark.slow
def test_on_the_same_measurements_the_same_seed_comes_to_the_same_plans(desk: Desk, ran: Desk) -> None:
    without_trials(desk, ran, 0)
    resumed = desk.cold("run", "--resume", "latest")  # another interpreter than the one that ran first
    assert resumed.code == 0
    assert "channels stay in steps of 4, as the run began; the inventory says 16 now" in resumed.err
    comes_to_the_same(desk, ran)


def test_a_run_is_resumed_from_another_folder_and_comes_to_the_same_plans(
    desk: Desk, ran: Desk, tmp_path: Path
) -> None:
    without_trials(desk, ran, 2)
    elsewhere = Desk(tmp_path / "elsewhere")
    (elsewhere.folder / "net.py").unlink()  # the one beside the run's start is meant
    done = elsewhere.done("run", "--resume", "latest", "--runs", str(desk.runs))
    assert f"pull {next(desk.runs.iterdir()).name} --output my-model --runs {desk.runs}" in done.out
    comes_to_the_same(desk, ran)


def comes_to_the_same(desk: Desk, ran: Desk) -> None:
    expected = ran.done("runs", "show", "latest", "--json").json
    found = shown(desk)

    def plans(run: dict[str, Any]) -> list[Any]:
        return [(t["plan"], t["reward"], t["candidate"]["accuracy"]) for t in run["trials"]]

    assert plans(found) == plans(expected)
    assert found["chosen"] == expected["chosen"]
    assert [a["files"] for a in found["artifacts"]] == [a["files"] for a in expected["artifacts"]]


def looked(desk: Desk, key: str, *ratios: float, half: float = 0.0) -> None:
    """Store what looks at a whole file found, a process each, as if the run had been killed right after them."""
    (folder,) = desk.runs.iterdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        ((text,),) = database.execute("SELECT json FROM measurements LIMIT 1").fetchall()
        for number, ratio in enumerate(ratios, 1):
            found = {**json.loads(text), "ratio": {"value": ratio, "low": ratio - half, "high": ratio + half}}
            row = (f"1:whole:{key} process {number}", json.dumps(found))
            database.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?)", row)


def test_a_finalist_that_misses_the_target_in_one_piece_makes_room_for_the_next(desk: Desk, ran: Desk) -> None:
    first = ran.done("runs", "show", "latest", "--json").json["artifacts"]
    favourite = next(a["id"] for a in first if a["chosen"]).removesuffix("-full")
    (other,) = [a["id"] for a in first if not a["chosen"] and a["id"] != favourite]
    without_trials(desk.thoroughly(), ran, 4)
    looked(desk, favourite, 0.52, 0.52)
    looked(desk, other, 0.51, 0.51, 0.41, 0.41, half=0.05)  # first above the target, not surely, and then below it
    resumed = desk.done("run", "--resume", "latest")
    assert f"finalist {favourite.removeprefix('r1t')} misses the target as a whole file (0.520×" in resumed.err
    run = shown(desk)
    assert run["chosen"] == f"{other}-full"
    ratios = {a["id"]: a["after"]["measurement"]["ratio"]["value"] for a in run["artifacts"]}
    assert ratios[other] == pytest.approx(math.sqrt(0.51 * 0.41))  # both looks count
    assert ratios[favourite] == pytest.approx(0.52)
