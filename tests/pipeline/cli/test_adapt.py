"""`pipeline adapt` as a user meets it: a finished run becomes a bundle that chooses among its networks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline
import pipeline.errors
from deploy.verify import verify_bundle
from tests.command_line import Desk
from tests.pipeline.cli.test_pull_formats import manifest_of


@pytest.fixture(scope="module")
def adapted(new_desk: Callable[[], Desk]) -> Desk:
    """A folder with a run that was adapted as soon as it ended; its JSON lies in run.json."""
    desk = new_desk()
    whole = (
        "run",
        "--config",
        "run.yaml",
        "--epochs",
        "4",
        "--quick",
        "--ladder",
        "4",
        "--output",
        "adaptive",
        "--json",
    )
    desk.write("run.json", desk.done(*whole).out)
    return desk


def found(desk: Desk) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((desk.folder / "run.json").read_text())["adaptation"]
    return told


def test_the_ladder_is_measured_and_what_is_left_out_is_said(adapted: Desk) -> None:
    told = found(adapted)
    names = [one["name"] for one in told["variants"]]
    assert "plain" in names
    assert {*names, *(one["name"] for one in told["dropped"])} >= {"plain", "robust", "uncut"}
    costs = {one["name"]: one["cost"] for one in told["variants"]}
    assert costs["plain"] == 1
    assert list(costs.values()) == sorted(costs.values())
    for one in told["variants"]:
        assert one["latency_ms"]["low"] <= one["latency_ms"]["value"] <= one["latency_ms"]["high"]
        assert 0 < one["corrupted"] <= 1
    assert told["why"]


def test_four_sets_of_held_out_streams_judge_every_opponent(adapted: Desk) -> None:
    judged = found(adapted)["judged"]
    assert [(one["coherent"], one["seen"]) for one in judged] == [(c, s) for s in (True, False) for c in (True, False)]
    for one in judged:
        assert one["count"] >= 24
        names = {method["name"] for method in one["methods"]}
        assert {"best time-mix", "cascade", "gate", "rule", "condition oracle"} <= names


def test_the_bundle_is_whole_and_its_controller_answers(adapted: Desk) -> None:
    folder = adapted.folder / "adaptive"
    verify_bundle(folder)
    manifest = manifest_of(folder)
    files = [one["file"] for one in manifest["adaptation"]["variants"]]
    assert "model.onnx" in files
    assert len(set(files)) == len({manifest["files"][name]["sha256"] for name in files})
    done = subprocess.run([sys.executable, folder / "controller.py"], capture_output=True, text=True, check=True)
    assert f"{len(files)} networks are open" in done.stdout
    assert "a decision takes " in done.stdout
    assert done.stdout.count("random") >= 3
    verify_bundle(folder)  # nothing was left behind in it


def test_a_changed_network_of_the_ladder_is_refused(adapted: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(adapted.folder / "adaptive", folder)
    name = "controller.json"
    (folder / name).write_text((folder / name).read_text().replace('"ring": 1000', '"ring": 1001'))
    done = subprocess.run([sys.executable, folder / "controller.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "controller.json differs" in done.stderr


def test_made_again_nothing_is_trained_twice_and_the_table_is_printed(adapted: Desk) -> None:
    done = adapted.done("adapt", "latest", "--quick", "--output", "again", "--floor", "0.3", "--ladder", "2")
    assert "Fine-tune" not in done.err
    for word in (
        "variant",
        "coherent, unseen kinds",
        "best time-mix",
        "ceiling:",
        "ships",
        "report",
        "a decision takes",
    ):
        assert word in done.out + done.err
    assert (adapted.runs / manifest_of(adapted.folder / "again")["run"]["id"] / "adaptation.html").exists()


@pytest.mark.slow
def test_from_python_it_is_the_same(adapted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(adapted.folder)
    heard: list[str] = []
    made = pipeline.adapt(
        "latest", tmp_path / "made", quick=True, ladder=2, listen=lambda e: heard.append(getattr(e, "name", ""))
    )
    assert not any("Fine-tune" in name for name in heard)
    names = [one["name"] for one in manifest_of(tmp_path / "made")["adaptation"]["variants"]]
    assert names == [one.name for one in made.variants]
    with pytest.raises(pipeline.errors.OutputError, match="is not empty"):
        pipeline.adapt("latest", tmp_path / "made")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--floor", "1.5"), "it must be between 0 and 1"),
        (("--deadline-ms", "0"), "give the milliseconds that a frame may take"),
        (("--deadline-ms", "0.000001"), "the fastest variant"),
        (("--ladder", "1"), "a ladder has 2 to 16 networks"),
        (("--output", "runs"), "is not empty"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(adapted: Desk, words: tuple[str, ...], said: str) -> None:
    done = adapted.do("adapt", "latest", "--quick", *words)
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ladder", "1"), "a ladder has 2 to 16 networks"),
        (("--ladder", "3", "--rounds", "2"), "--ladder: of several rounds, later ones cut another network"),
        (("--ladder", "3", "--condition", "clean", "--condition", "fog"), "take a run without --condition"),
    ],
)
def test_a_run_that_can_have_no_ladder_is_refused_before_it_begins(
    desk: Desk, words: tuple[str, ...], said: str
) -> None:
    done = desk.do("run", "--config", "run.yaml", *words)
    assert done.code == 2
    assert said in done.error
    assert not desk.runs.exists()
