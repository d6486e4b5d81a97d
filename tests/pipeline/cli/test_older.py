"""What an older version stored is read, and a search that it recorded comes to the same when it is played back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.command_line import Desk

OLDER = Path(__file__).parents[2] / "fixtures/older"


@pytest.fixture
def older(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    shutil.copytree(OLDER, tmp_path, dirs_exist_ok=True)
    return desk


def test_an_older_run_is_shown_and_pulled(older: Desk) -> None:
    run = older.done("runs", "show", "latest", "--runs", "stored", "--json").json
    assert (run["status"], len(run["trials"])) == ("finished", 4)
    older.done("pull", "latest", "--runs", "stored", "--output", "bundle")
    manifest = json.loads((older.folder / "bundle/manifest.json").read_text())
    assert manifest["figures"]["after_fine_tuning"]["parameters"] < manifest["figures"]["base"]["parameters"]


def test_an_older_recipe_cuts_the_checkpoint_as_it_did(older: Desk) -> None:
    older.done(
        "apply", "recipe.json", "--model", "net.py:net", "--weights", "net.safetensors", "--data", "digits",
        "--output", "applied",
    )  # fmt: skip
    made = json.loads((older.folder / "applied/recipe.json").read_text())
    assert made["cuts"] == json.loads((OLDER / "recipe.json").read_text())["cuts"]


def test_an_older_search_played_back_has_the_same_trials_and_rewards(older: Desk) -> None:
    """The processor may round accuracies otherwise than that which recorded them; plans and ratios are exact."""
    older.write("tape.yaml", "devices:\n  tape: {kind: replay, recording: recording.jsonl.gz}\n")
    done = older.done("run", "--device", "tape", "--inventory", "tape.yaml", "--config", "run.yaml", "--json")
    assert "run.yaml:8: recovery is called fine_tuning now; the old name still counts" in done.err
    run = done.json
    expected = json.loads((OLDER / "expected.json").read_text())
    found = [(trial["plan"]["levels"], trial["key"], trial["measurement"]["ratio"]["value"]) for trial in run["trials"]]
    assert found == [(each["levels"], each["key"], each["ratio"]) for each in expected["trials"]]
    rewards = [trial["reward"] for trial in run["trials"]]
    assert rewards == pytest.approx([each["reward"] for each in expected["trials"]], abs=0.05)
    assert run["chosen"] == expected["chosen"]
