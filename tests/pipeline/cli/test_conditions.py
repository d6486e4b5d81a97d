"""A run under several conditions on the command line: shown, planned for, pulled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import FEW_CUTS, Desk
from tests.made_once import made_once

NAMES = ["clean", "night:4"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Desk:
    """A folder with one finished run under two conditions; only to be read."""

    def run(folder: Path) -> None:
        desk = Desk(folder, weights)
        desk.settings(conditions="[clean, night:4]", target="[latency=0.95x]", trials="2", **FEW_CUTS)
        desk.write("run.json", desk.done("run", "--config", "run.yaml", "--json").out)

    return Desk.there(made_once(tmp_path_factory.getbasetemp(), "adapted", run))


def test_a_run_has_a_plan_for_each_condition_in_words_and_in_json(adapted: Desk) -> None:
    found = json.loads((adapted.folder / "run.json").read_text())
    assert [one["name"] for one in found["conditions"]] == NAMES
    chosen = [one for one in found["artifacts"] if one["chosen"]]
    assert sorted(one["condition"] for one in chosen) == NAMES
    assert {one["artifact"] for one in found["conditions"]} == {one["id"] for one in chosen}
    shown = adapted.done("runs", "show", "latest").out
    assert "plan for" in shown
    assert "under night:4" in shown
    assert "digits (clean, night:4)" in adapted.done("runs", "list").out


def test_a_plan_for_another_target_asks_for_the_condition(adapted: Desk) -> None:
    planned = ("plan", "latest", "--target", "latency=0.9x", "--no-measure")
    refused = adapted.do(*planned)
    assert refused.code == 2
    assert "name one: --condition clean" in refused.error
    found = adapted.done(*planned, "--condition", "night:4", "--json").json
    assert found["condition"] == "night:4"


def test_bundles_say_their_condition_and_its_statistics(adapted: Desk, tmp_path: Path) -> None:
    adapted.done("pull", "latest", "--output", str(tmp_path / "both"))
    folders = sorted((tmp_path / "both").iterdir())
    assert ["night-4" in folder.name for folder in folders].count(True) == 1
    assert len(folders) == 2
    adapted.done("pull", "latest", "--condition", "night:4", "--output", str(tmp_path / "dark"))
    manifest = json.loads((tmp_path / "dark" / "manifest.json").read_text())
    assert manifest["condition"]["name"] == "night:4"
    assert len(manifest["condition"]["input_mean"]) == 1
    assert set(manifest["condition"]["accuracy_under"]) == set(NAMES)
    assert "under night:4" in (tmp_path / "dark" / "README.md").read_text()
    refused = adapted.do("pull", "latest", "--condition", "fog:1", "--output", str(tmp_path / "no"))
    assert "it has: clean, night:4" in refused.error


def test_a_mistyped_condition_is_refused_before_anything_is_measured(desk: Desk) -> None:
    refused = desk.do("run", "--config", "run.yaml", "--condition", "fogg:3")
    assert refused.code == 2
    assert "did you mean 'fog'" in refused.error
    assert not list(desk.runs.glob("*")) if desk.runs.exists() else True


def test_what_is_compared_is_one_network(adapted: Desk) -> None:
    refused = adapted.do("compare", "latest")
    assert "has a network for each of 2 conditions (clean, night:4)" in refused.err
