"""Networks that are no classifiers, over the command line: searched, pruned, fine-tuned, exported, verified, deployed.

They are those of docs/tasks.md, as they stand there.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pipeline
from pipeline import structures
from pipeline.config import load_config
from pipeline.objective.task import Judged
from pipeline.report.table import capitalised
from pipeline.run.inputs import load_run_data
from tests.command_line import Desk
from tests.deployments import inventory
from tests.shown_commands import PYTHON, ROOT, blocks, different, typed, whole

pytestmark = pytest.mark.slow

TRAINING = {
    "weights": "null",
    "base_training": "{epochs: 12, min_steps: 24, learning_rate: 0.03}",
    "fine_tuning": "{finalists: 1, finalist_epochs: 1, epochs: 1, min_steps: 4, verify_images: 16}",
    "trials": "3",
    "target": "size=0.8x",
    "strategy": "random",
}

LINES = [line for line in different(whole("pipeline ")) if "--task " in line]
SHOWN = {line.partition("--task ")[2].split()[0]: line for line in LINES}
"""Task → the command of the documents that searches for such a network."""


@pytest.fixture
def files(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "desk")
    for (page, number), name in PYTHON.items():
        if page in ("docs/tasks.md", "docs/extending/task.md"):
            desk.write(name, blocks(ROOT / page, "python")[number])
    return desk


def test_every_task_that_is_shown_is_run_here() -> None:
    assert set(SHOWN) == {"regression", "segmentation", "detector.py:TASK", "within.py:TASK"}
    assert sorted(SHOWN.values()) == LINES


def run_of(desk: Desk, task: str) -> dict[str, Any]:
    """See the run of a task through as the documents show it, more briefly; return what it came to."""
    desk.settings(**TRAINING)
    ours = ("--config", "run.yaml", "--trials", TRAINING["trials"], "--target", TRAINING["target"])
    done = desk.done(*typed(SHOWN[task], {"finished": []}), *ours, "--output", "bundle")
    desk.write("run.out", done.out)
    desk.write("run.err", done.err)
    shown: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return shown


def chosen_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(artifact for artifact in run["artifacts"] if artifact["chosen"])
    return found


def require_whole(desk: Desk, run: dict[str, Any], metric: str) -> None:
    """Whatever the task: it was cut, answers better than nothing, was verified, and says what its score is called."""
    chosen, base = chosen_of(run), run["base"]
    assert run["status"] == "finished"
    assert run["task"]["metric"] == metric
    assert chosen["after"]["parameters"] < base["parameters"]
    assert min(base["test_accuracy"], chosen["after"]["test_accuracy"]) > 0.2
    assert chosen["verified_images"] == 16
    assert chosen["device_accuracy"] == pytest.approx(chosen["host_accuracy"], abs=0.002)
    text = (desk.folder / "run.out").read_text() + (desk.folder / "run.err").read_text()
    assert f"{capitalised(metric)}, test split" in text
    assert "accuracy" not in text.lower()
    assert "networks compute in float32" in text
    report = next(desk.runs.glob("*/report.html")).read_text()
    assert f"{metric} on the search split" in report


def require_deployable(desk: Desk, outputs: list[str]) -> dict[str, np.ndarray]:
    """The bundle's own example answers the sample; return what it wrote."""
    sample = next(desk.runs.glob("*/sample.npz"))
    example = [sys.executable, "bundle/example.py", str(sample), "answers.npz"]
    done = subprocess.run(example, capture_output=True, text=True, check=True, cwd=desk.folder)
    assert [line.split()[0] for line in done.stdout.splitlines()[: len(outputs)]] == outputs
    verified = desk.done("verify", "bundle", "--json").json
    assert verified["parity"]["files"]["model.onnx"] < 1e-5
    there = [sys.executable, "-B", "bundle/runtime.py", "self-test"]
    tested = json.loads(subprocess.run(there, capture_output=True, text=True, check=True, cwd=desk.folder).stdout)
    assert tested["ok"]
    assert tested["inputs"] == 4
    desk.write("board.yaml", inventory(desk.folder))
    pushed = desk.done("deploy", "push", "bundle", "--inventory", "board.yaml", "--json").json
    assert pushed["switched"]
    assert pushed["measurement"]["inferences"] > 0
    with np.load(desk.folder / "answers.npz") as held:
        return {name: held[name] for name in held.files}


def inputs_of(desk: Desk) -> structures.Inputs:
    with np.load(next(desk.runs.glob("*/sample.npz"))) as held:
        parts = tuple(torch.from_numpy(held[name]) for name in held.files)
    return parts if len(parts) > 1 else parts[0]


def test_a_regression_of_two_inputs(files: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(files, "regression")
    require_whole(files, run, "R²")
    assert [(one["name"], one["shape"]) for one in run["task"]["inputs"]] == [
        ("picture", [1, 16, 16]),
        ("distance", [1]),
    ]
    answers = require_deployable(files, ["scores"])

    monkeypatch.chdir(files.folder)
    pruned = pipeline.load_pruned("bundle", "sizes.py:Net")
    with torch.inference_mode():
        again = structures.answer(pruned, inputs_of(files)).numpy()
    assert np.allclose(answers["scores"], again, atol=1e-4)
    manifest = json.loads((files.folder / "bundle/manifest.json").read_text())
    assert manifest["task"]["metric"] == "R²"
    assert manifest["accuracy"]["after_fine_tuning"]["test"] == chosen_of(run)["after"]["test_accuracy"]

    applied = files.done(
        "apply", "bundle", "--weights", str(_base_weights(files)), "--model", "sizes.py:Net", "--output", "applied",
        "--data", "dataset:sizes.py:Things", "--json",
    ).json  # fmt: skip
    assert applied["recipe"]["same_weights"]
    assert applied["metric"] == "R²"


def _base_weights(desk: Desk) -> Path:
    with pipeline.open_run("latest", runs=desk.runs) as store:
        from pipeline.store.facts import BASE_WEIGHTS

        blob = store.blob(store.required(BASE_WEIGHTS))
    path = desk.folder / "base.safetensors"
    path.write_bytes(blob.read_bytes())
    return path


def test_a_segmentation_and_its_rival(files: Desk) -> None:
    run = run_of(files, "segmentation")
    require_whole(files, run, "mean IoU")
    assert require_deployable(files, ["scores"])["scores"].shape == (1, 3, 16, 16)

    files.write(
        "narrow.py", "from shapes import UNet\n\ndef make(num_classes):\n    return UNet(num_classes, width=4)\n"
    )
    train = "import torch, narrow; torch.save(narrow.make(3).state_dict(), 'narrow.pt')"
    subprocess.run([sys.executable, "-c", train], check=True, cwd=files.folder)
    rival = ("--rival", "narrow.py:make:narrow.pt")
    compared = files.done("compare", "latest", *rival)
    assert "test mean IoU" in compared.out
    assert "rival narrow.py:make (" in compared.out
    again = files.done("compare", "latest", *rival, "--json")
    assert "Measure rival" not in again.err  # it stands in the run's store
    groups = {group["differs"].get("baseline", ""): group for group in again.json["groups"]}
    (name,) = (name for name in groups if name.startswith("rival"))
    found = groups[name]["runs"][0]["figures"]
    assert found["parameters"] < run["base"]["parameters"]
    assert found["latency_ratio"] > 0
    assert "test_accuracy" not in groups[name]["runs"][0]["intervals"]  # a mean IoU has none by a number of images
    report = next(files.runs.glob("*/report.html")).read_text()
    assert "rival narrow.py:make (" in report
    assert '"name": "rivals"' in report
    assert "rival narrow.py:make (" in files.done("runs", "show", "latest").out


def test_a_detector(files: Desk) -> None:
    importlib.import_module("pipeline.torchvision_compat")  # torchmetrics imports torchvision
    pytest.importorskip("torchmetrics")
    run = run_of(files, "detector.py:TASK")
    require_whole(files, run, "mAP")
    assert run["task"]["name"] == "detector.py:TASK"
    answers = require_deployable(files, ["bbox_regression", "cls_logits"])
    assert {name: values.shape for name, values in answers.items()} == {
        "bbox_regression": (1, 16, 4), "cls_logits": (1, 16, 3)
    }  # fmt: skip

    config = load_config(files.folder / "run.yaml", {"data": f"dataset:{files.folder}/detector.py:Squares",
                                                     "task": f"{files.folder}/detector.py:TASK"})  # fmt: skip
    data = load_run_data(config)
    judged = Judged(data.task)
    judged.add({name: torch.from_numpy(values) for name, values in answers.items()}, next(data.test.batches(1))[1])
    assert 0 <= judged.score() <= 1

    changed = (files.folder / "detector.py").read_text() + "\n"
    files.write("detector.py", changed)
    refused = files.do("compare", "latest", "--rival", "detector.py:Detector:none.pt")
    assert refused.code == 2
    assert "began with another" in refused.error


def test_a_task_of_ones_own_is_part_of_the_run(files: Desk) -> None:
    run = run_of(files, "within.py:TASK")
    require_whole(files, run, "within tolerance")
    assert run["config"]["task"] == "within.py:TASK"
