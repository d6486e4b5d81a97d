"""INT8 as a decision of the run: taken by what the device measures, told, kept, handed over with its parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import onnx
import pytest

from deploy.verify import verify_bundle
from pipeline.recipes.recipe import read_recipe
from tests.command_line import Desk, finished, read_until
from tests.pipeline.export.quantization.networks import HERE, largest_weight
from tests.recordings import told


@pytest.fixture(scope="module")
def int8(new_desk: Callable[[], Desk]) -> Desk:
    """A folder with one finished run in INT8; only to be read."""
    desk = new_desk()
    desk.settings(precision="int8", target="latency=3x", trials="3")  # what is faster does not matter to what is shown
    desk.write("shown.txt", (done := desk.done("run", "--config", "run.yaml", "--record")).out)
    desk.write("told.txt", done.err)
    return desk


def run_of(desk: Desk) -> dict[str, object]:
    return dict(desk.done("runs", "show", "latest", "--json").json)


@pytest.mark.slow
def test_every_candidate_is_int8_and_the_first_is_the_uncut_network(int8: Desk) -> None:
    run = run_of(int8)
    trials = run["trials"]
    assert isinstance(trials, list)
    assert set(trials[0]["plan"]["levels"]) == {0}
    for trial in trials:
        assert trial["measurement"]["conditions"]["int8_operators"] >= 2
        assert trial["candidate"]["size_bytes"] < 0.6 * run["base"]["size_bytes"]  # type: ignore[index]
    decision = run["precision"]
    assert isinstance(decision, dict)
    assert decision["precision"] == "int8"
    assert decision["agreement"] > 0.9
    assert "networks compute in INT8: uncut it has" in (int8.folder / "told.txt").read_text()


@pytest.mark.slow
def test_the_four_corners_stand_beside_each_other(int8: Desk) -> None:
    text = (int8.folder / "shown.txt").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("base, ", "pruned, "))]
    assert [line.split("  ")[0] for line in lines] == ["base, float32", "base, INT8", "pruned, float32", "pruned, INT8"]
    assert all("%" in line and "×" in line for line in lines)
    assert "pruned, INT8" in next((int8.runs).glob("*/report.html")).read_text()


@pytest.mark.slow
def test_the_bundle_holds_the_int8_file_and_its_float_parent(int8: Desk) -> None:
    folder = int8.folder / "bundle"
    int8.done("pull", "latest", "--output", str(folder))
    verify_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["precision"] == "int8"
    assert manifest["figures"]["float_parent"]["size_bytes"] == (folder / "float32.onnx").stat().st_size
    verified = manifest["accuracy"]["verified"]
    assert verified["same_class"] >= 0.95
    assert manifest["accuracy"]["agreement_with_float_parent"] > 0.9
    shown = (int8.folder / "shown.txt").read_text()
    assert f"{verified['same_class']:.1%} into the same class" in " ".join(shown.split())
    assert "of the search split's images into the class of its float32 parent" in " ".join(shown.split())
    operators = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert "QuantizeLinear" in operators
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(folder / "float32.onnx").graph.node}
    found = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=True)
    assert "random pixels" in found.stdout


@pytest.mark.slow
def test_its_recipe_names_the_precision_and_another_checkpoint_becomes_int8_as_well(int8: Desk) -> None:
    """With data; without, there is nothing to read ranges of, and that is said."""
    int8.done("pull", "latest", "--output", str(int8.folder / "recipe"))
    recipe = read_recipe(int8.folder / "recipe")
    assert (recipe.precision, recipe.float_layers) == ("int8", ())
    decided = run_of(int8)["precision"]["weight_bits"]  # type: ignore[index]
    manifest = json.loads((int8.folder / "recipe" / "manifest.json").read_text())
    assert recipe.weight_bits == manifest["model"]["weight_bits"] == decided == HERE.weight_bits
    asked = ("apply", "recipe", "--weights", "net.pt", "--model", "net.py:Net")
    told = int8.done(*asked, "--data", "digits", "--output", "other", "--json").json
    folder = int8.folder / "other"
    verify_bundle(folder)
    assert set(told["files"]) == {"model.onnx", "float32.onnx", "weights.safetensors", "recipe.json"}
    assert told["model"]["precision"] == "int8"
    assert told["model"]["weight_bits"] == decided
    assert largest_weight((folder / "model.onnx").read_bytes()) == HERE.largest_weight
    assert told["accuracy"]["agreement"] > 0.8
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    int8.done("pull", "latest", "--output", "own", "--format", "onnx", "--precision", "int8")
    made = json.loads((int8.folder / "own" / "manifest.json").read_text())["quantization"]
    assert (made["scheme"], made["weight_bits"]) == ("u8s8", decided)
    done = int8.done(*asked, "--output", "float")
    assert "the recipe's network is INT8, this one float32: give --data" in " ".join(done.out.split())
    assert not (int8.folder / "float" / "float32.onnx").exists()


@pytest.mark.slow
def test_an_int8_run_is_played_back_with_the_same_decision(int8: Desk) -> None:
    before = run_of(int8)
    recording = next(int8.runs.glob("*/recording.jsonl.gz"))
    tape = f"\n  tape: {{kind: replay, recording: {recording}}}\n"
    int8.write("tape.yaml", (int8.folder / "inventory.yaml").read_text().rstrip() + tape)
    played = ("run", "--config", "run.yaml", "--device", "tape", "--inventory", "tape.yaml", "--runs", "played")
    after = dict(int8.done(*played, "--json").json)
    for key in ("precision", "agreement", "float_layers"):
        assert after["precision"][key] == before["precision"][key]  # type: ignore[index]
    assert told(after) == told(before)


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_precision_that_it_decided_for(desk: Desk) -> None:
    desk.settings(precision="int8", target="latency=3x", trials="3")
    run = desk.start("run", "--config", "run.yaml")
    read_until(run, "trial 1:")
    run.send_signal(signal.SIGKILL)
    finished(run)
    before = run_of(desk)
    resumed = desk.done("run", "--resume", "latest")
    assert "Try the base model in INT8" not in resumed.err
    after = run_of(desk)
    assert after["precision"]["base"]["measurement"] == before["precision"]["base"]["measurement"]  # type: ignore[index]
    assert after["trials"][: len(before["trials"])] == before["trials"]  # type: ignore[index,arg-type]


@pytest.mark.slow
def test_auto_says_what_it_decided_and_why(desk: Desk) -> None:
    desk.settings(precision="auto", trials="1", target="[]")
    done = desk.done("run", "--config", "run.yaml")
    assert "networks compute in " in done.err
    decision = run_of(desk)["precision"]
    assert isinstance(decision, dict)
    assert decision["why"] in " ".join(done.err.split())


def test_what_no_int8_file_shows_is_refused_before_anything_is_searched(desk: Desk) -> None:
    desk.settings(precision="int8", strategy="purl", target="density=0.5x")
    done = desk.do("run", "--config", "run.yaml")
    assert done.code == 2
    assert "precision int8: single weights become zero" in done.error
