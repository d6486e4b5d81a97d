"""An ONNX file as the model of a run: pruned, fine-tuned, exported, applied, and resumed with the same file alone."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from pipeline.api import load_pruned
from pipeline.models import load_model
from pipeline.recipes.recipe import read_recipe
from tests.command_line import Desk, finished, read_until


def write_onnx(network: nn.Module, path: Path) -> None:
    """Write a network of grey images of 8 x 8 for one image, with a Softmax behind it and its batch norm kept."""
    whole = nn.Sequential(network, nn.Softmax(1)).eval()
    with warnings.catch_warnings(action="ignore"):  # the exporter is deprecated
        torch.onnx.export(
            whole, (torch.zeros(1, 1, 8, 8),), str(path), dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False, input_names=["image"], output_names=["scores"],
        )  # fmt: skip


@pytest.fixture
def onnx_desk(desk: Desk) -> Desk:
    """A desk whose only network is ``net.onnx``."""
    network = load_model(f"{desk.folder / 'net.py'}:Net", classes=10, channels=1, weights=desk.folder / "net.pt")
    write_onnx(network, desk.folder / "net.onnx")
    (desk.folder / "net.py").unlink()
    (desk.folder / "net.pt").unlink()
    settings = "\n".join(line for line in (desk.folder / "run.yaml").read_text().splitlines() if "net.p" not in line)
    desk.write("run.yaml", f"model: net.onnx\n{settings}\n")
    return desk


def test_an_onnx_file_is_pruned_exported_and_its_recipe_applies(onnx_desk: Desk) -> None:
    told = onnx_desk.done("run", "--config", "run.yaml", "--epochs", "0.1", "--json")
    assert "the last Softmax is taken off" in told.err
    assert "Train a base model" not in told.err
    assert told.json["base"]["search_accuracy"] > 0.8
    onnx_desk.done("pull", "latest", "--output", "bundle")
    bundle = onnx_desk.folder / "bundle"
    recipe = read_recipe(bundle)
    assert recipe.model == "net.onnx"
    assert {group.name for group in recipe.cuts[0].groups} <= {"0.stem", "0.block.conv1", "0.down"}
    images = torch.randn(3, 1, 8, 8)
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    scores = np.concatenate([session.run(None, {"image": image[None].numpy()})[0] for image in images])
    loaded = load_pruned(bundle, str(onnx_desk.folder / "net.onnx"))
    with torch.inference_mode():
        np.testing.assert_allclose(scores, loaded(images), atol=1e-4, rtol=1e-4)
    applied = onnx_desk.done("apply", "bundle", "--model", "net.onnx", "--output", "again", "--json").json
    assert applied["recipe"]["same_weights"]
    manifest = json.loads((bundle / "manifest.json").read_text())["figures"]["after_fine_tuning"]
    assert applied["figures"]["pruned"]["parameters"] == manifest["parameters"]


def test_a_run_goes_on_with_the_file_that_it_began_with_from_any_folder(onnx_desk: Desk, tmp_path: Path) -> None:
    run = onnx_desk.start("run", "--config", "run.yaml")
    read_until(run, "Measure the base model")
    run.kill()
    finished(run)
    before = (onnx_desk.folder / "net.onnx").read_bytes()
    torch.manual_seed(1)
    write_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), onnx_desk.folder / "net.onnx")
    refused = onnx_desk.do("run", "--resume", "latest")
    assert (refused.code, "Load torch" in refused.err) == (2, False)
    assert f"began with another {onnx_desk.folder / 'net.onnx'}, which has changed: its SHA-256 was" in refused.error
    (onnx_desk.folder / "net.onnx").write_bytes(before)
    elsewhere = Desk(tmp_path / "elsewhere")
    elsewhere.done("run", "--resume", "latest", "--runs", str(onnx_desk.runs))


def test_what_does_not_fit_the_file_is_one_line(onnx_desk: Desk) -> None:
    write_onnx(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 5)), onnx_desk.folder / "five.onnx")
    said = {
        ("--model", "five.onnx"): "digits has 10 classes, so expected is (8, 10): give the network as many outputs",
        ("--weights", "net.pt"): "net.onnx holds its weights, but net.pt is given beside it; leave --weights out",
        ("--model", "nowhere.onnx"): "no model file nowhere.onnx; give the path of an ONNX file",
    }
    for options, words in said.items():
        refused = onnx_desk.do("run", "--config", "run.yaml", *options)
        assert refused.code == 2
        assert words in refused.error
    assert not onnx_desk.runs.exists()
