"""A run on this machine that is recorded, and the same run played back without measuring anything."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.measurement.from_samples import measurement
from tests.command_line import FEW_CUTS, INVENTORY, Desk, finished, read_until
from tests.recordings import dense, rewritten, told

ONE_FINALIST = "{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 20}"
REPLAYED = "\n  tape: {kind: replay, recording: RECORDING}\n"


@pytest.fixture(scope="module")
def recorded(new_desk: Callable[[], Desk]) -> Desk:
    """A folder with one recorded run in it, and a device that plays it back; only to be read."""
    desk = new_desk()
    desk.settings(target="size=0.9x", **FEW_CUTS, fine_tuning=ONE_FINALIST)
    desk.done("run", "--config", "run.yaml", "--epochs", "0.1", "--record")
    (folder,) = desk.runs.iterdir()
    inventory = INVENTORY.replace("AGENT", str(desk.folder / "agent")).rstrip()
    desk.write("inventory.yaml", inventory + REPLAYED.replace("RECORDING", str(folder / "recording.jsonl.gz")))
    return desk


def shown(desk: Desk, run: str) -> dict[str, Any]:
    found: dict[str, Any] = desk.done("runs", "show", run, "--json").json
    return found


@pytest.fixture(scope="module")
def replayed(recorded: Desk) -> dict[str, Any]:
    done = recorded.cold("run", "--config", "run.yaml", "--epochs", "0.1", "--device", "tape", "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = done.json
    return found


def original(recorded: Desk) -> dict[str, Any]:
    return shown(recorded, next(run["id"] for run in recorded.done("runs", "list", "--json").json))


def test_the_same_seed_played_back_comes_to_the_same_plans_rewards_and_artifact(
    recorded: Desk, replayed: dict[str, Any]
) -> None:
    assert told(replayed) == told(original(recorded))


@pytest.mark.parametrize("workers", ["2", pytest.param("ray", marks=pytest.mark.ray)])
def test_played_back_with_workers_it_comes_to_the_same_bits(
    recorded: Desk, replayed: dict[str, Any], workers: str
) -> None:
    played = ("run", "--config", "run.yaml", "--epochs", "0.1", "--device", "tape", "--json", "--workers", workers)
    done = recorded.done(*played)
    assert told(done.json) == told(replayed)
    assert "1 thread each" in done.err


def test_everything_shown_says_that_it_is_replayed(recorded: Desk, replayed: dict[str, Any], tmp_path: Path) -> None:
    assert replayed["device"]["kind"] == "replay"
    assert replayed["facts"]["board"].endswith(", replayed")
    assert all(t["measurement"]["conditions"]["replayed"] for t in replayed["trials"])
    assert "tape (replayed)" in recorded.done("runs", "list").out
    assert "no board was measured" in recorded.done("runs", "show", replayed["id"]).out
    assert ", replayed" in (recorded.runs / replayed["id"] / "report.html").read_text()
    recorded.done("pull", replayed["id"], "--output", str(tmp_path / "model"))
    assert ", replayed" in json.loads((tmp_path / "model" / "manifest.json").read_text())["device"]["board"]


def test_the_run_says_where_its_recording_is_and_how_it_is_played_back(recorded: Desk) -> None:
    out = recorded.done("runs", "show", original(recorded)["id"]).out
    assert "recording.jsonl.gz (0." in out
    assert "local-replayed: {kind: replay, recording: " in out


def test_how_the_devices_time_was_spent_is_shown(recorded: Desk) -> None:
    run = original(recorded)
    spent = run["usage"]["1"]
    parts = [spent[name] for name in ("measuring_s", "asking_s", "building_s", "rest_s")]
    assert sum(parts) == pytest.approx(spent["wall_s"])
    assert spent["shared"] is (len(os.sched_getaffinity(0)) == 1), "no core is left to build on"
    working_s = 0 if spent["shared"] else spent["asking_s"] + spent["building_s"]
    assert spent["idle_s"] == pytest.approx(spent["rest_s"] + working_s)
    assert "device measuring " in recorded.done("runs", "show", run["id"]).out
    fresh = [t for t in run["trials"] if not t["cached"] and t["failure"] is None]  # others were measured before
    assert (run["drift"]["trials"] if run["drift"] else 0) == len(fresh)


def test_a_missing_recording_is_named(desk: Desk) -> None:
    desk.write("inventory.yaml", "version: 1\ndevices:\n  tape: {kind: replay, recording: nowhere.gz}\n")
    done = desk.do("run", "--config", "run.yaml", "--device", "tape")
    assert done.code == 2
    assert "nowhere.gz cannot be read: No such file or directory" in done.error


@pytest.mark.slow
def test_half_of_a_run_is_not_recorded(desk: Desk) -> None:
    run = desk.start("run", "--config", "run.yaml")
    read_until(run, "Measure the base model")
    run.kill()
    finished(run)
    assert "began without --record" in desk.do("run", "--resume", "latest", "--record").error


def test_a_profile_is_recorded_and_played_back(desk: Desk) -> None:
    desk.folder.joinpath("net.onnx").write_bytes(dense(seed=0))
    first = desk.done("profile", "net.onnx", "--record", "one.gz", "--json").json
    assert "one.gz is there already" in desk.do("profile", "net.onnx", "--record", "one.gz").error
    desk.write("tape.yaml", "version: 1\ndevices:\n  tape: {kind: replay, recording: one.gz}\n")
    command = ("profile", "net.onnx", "--device", "tape", "--inventory", "tape.yaml")
    assert desk.done(*command, "--json").json["p50_ms"] == first["p50_ms"]
    assert "no board was measured" in desk.done(*command).out
    desk.folder.joinpath("net.onnx").write_bytes(dense(seed=0, width=16))
    error = desk.do(*command).error
    assert "holds no measurement of this network" in error
    assert "it was made with model net.onnx, device local" in error


def throttled(recording: Path, trials: list[dict[str, Any]], *, board: bool = True) -> Path:
    """Return the recording with every measurement of these trials' networks throttled, those taken again included."""
    answers = [json.loads(line) for line in gzip.decompress(recording.read_bytes()).splitlines()]
    measured = [answer for answer in answers if answer.get("verb") == "measure"]
    passes: dict[str, list[float]] = defaultdict(list)
    for answer in measured:
        ratio = measurement(answer["result"], ci_rel=0.2).ratio
        assert ratio is not None
        passes[answer["arguments"]["candidate"]].append(ratio.value)
    found = [trial["measurement"]["ratio"]["value"] for trial in trials]
    networks = {
        name
        for name, ratios in passes.items()
        # An imprecise measurement is taken twice, and both count.
        for ratio in (*ratios, *(math.sqrt(one * other) for one, other in itertools.pairwise(ratios)))
        if any(math.isclose(ratio, one, rel_tol=1e-9) for one in found)
    }

    def throttle(number: int, raw: dict[str, Any]) -> None:
        if measured[number]["arguments"]["candidate"] in networks:
            raw["before"]["throttled"], raw["after"]["throttled"] = "0x0", "0x4"

    return rewritten(recording, throttle, board=board)


@pytest.mark.slow
def test_networks_that_were_trained_to_other_weights_are_measured_by_their_structure_and_not_verified(
    recorded: Desk, new_desk: Callable[[], Desk]
) -> None:
    desk = new_desk()
    desk.settings(target="size=0.9x", **FEW_CUTS, fine_tuning=ONE_FINALIST)
    weights = torch.load(desk.folder / "net.pt")
    other = {name: value * 1.0001 if value.is_floating_point() else value for name, value in weights.items()}
    torch.save(other, desk.folder / "net.pt")
    desk.write("inventory.yaml", (recorded.folder / "inventory.yaml").read_text())
    done = desk.done("run", "--config", "run.yaml", "--epochs", "0.1", "--device", "tape", "--json")
    assert "not verified: tape: the recording" in done.err
    assert all(t["measurement"]["conditions"]["replayed"] for t in done.json["trials"] if not t["failure"])
    chosen = next(a for a in done.json["artifacts"] if a["chosen"])
    assert (chosen["device_accuracy"], chosen["verified_images"]) == (None, 0)


SEARCH = ("run", "--config", "run.yaml", "--epochs", "0.1", "--json")


@pytest.fixture(scope="module")
def searched(new_desk: Callable[[], Desk]) -> tuple[Desk, dict[str, Any]]:
    """A folder with a recorded run of three trials, and what that came to; its recording is only to be read."""
    desk = new_desk().thoroughly()
    desk.settings(strategy="uniform", trials="3", target="[size=0.95x]")
    return desk, desk.done(*SEARCH, "--record").json


def test_a_candidate_that_the_board_never_measured_validly_is_put_aside_and_another_is_chosen(
    searched: tuple[Desk, dict[str, Any]],
) -> None:
    desk, first = searched
    winner = next(t for t in first["trials"] if t["index"] == first["best"])
    tape = throttled(desk.runs / first["id"] / "recording.jsonl.gz", [winner], board=False)
    desk.write("tape.yaml", f"version: 1\ndevices:\n  tape: {{kind: replay, recording: {tape}}}\n")
    done = desk.done(*SEARCH, "--device", "tape", "--inventory", "tape.yaml")
    (trial,) = [t for t in done.json["trials"] if t["index"] == winner["index"]]
    assert trial["failure"] == "quarantined: throttled, measured 3 times"
    assert (trial["reward"], trial["feasible"], trial["terms"]) == (None, False, {})
    assert trial["measurement"]["ratio"] == winner["measurement"]["ratio"]  # for the record
    assert trial["index"] not in done.json["pareto"]
    chosen = next(a for a in done.json["artifacts"] if a["chosen"])
    assert chosen["trial"] != winner["index"]
    meaning = "the firmware slowed the processor down"
    assert meaning in desk.done("runs", "show", done.json["id"]).out
    assert meaning in (desk.runs / done.json["id"] / "report.html").read_text()


@pytest.mark.slow
def test_a_search_without_valid_measurements_ends_and_says_what_to_do(
    searched: tuple[Desk, dict[str, Any]],
) -> None:
    desk, first = searched
    tape = throttled(desk.runs / first["id"] / "recording.jsonl.gz", first["trials"])
    desk.write("tape.yaml", f"version: 1\ndevices:\n  tape: {{kind: replay, recording: {tape}}}\n")
    command = ("run", "--config", "run.yaml", "--device", "tape", "--inventory", "tape.yaml", "--trials", "6")
    error = desk.do(*command).error
    assert "5 candidates failed in a row, the last with: quarantined: throttled, measured 3 times" in error
    assert "the firmware slowed the processor down" in error
    assert "`pipeline devices doctor tape` finds out what disturbs it" in error
