"""`pipeline apply` as a user meets it: a pulled bundle's recipe on this and on other checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from deploy.verify import verify_bundle
from pipeline.errors import UserError
from pipeline.models import load_model
from pipeline.recipes.apply import load_pruned
from pipeline.recipes.apply_to_checkpoint import ApplyRequest, apply_to_checkpoint
from pipeline.recipes.recipe import read_recipe
from tests.command_line import Desk


@pytest.fixture(scope="module")
def pulled(ran: Desk, new_desk: Callable[[], Desk]) -> Desk:
    """A folder with a bundle, the checkpoint that it came from, and another one of the same network."""
    desk = new_desk()
    ran.done("pull", "latest", "--output", str(desk.folder / "bundle"))
    torch.manual_seed(5)
    other = network(desk)
    torch.save(other.state_dict(), desk.folder / "other.pt")
    return desk


def network(desk: Desk, weights: str | None = None) -> torch.nn.Module:
    path = desk.folder / weights if weights else None
    return load_model(f"{desk.folder / 'net.py'}:Net", classes=10, channels=1, weights=path)


def scores(file: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None].numpy()})[0] for image in images])


def test_a_pulled_bundle_holds_its_recipe_and_loads_back(pulled: Desk) -> None:
    bundle = pulled.folder / "bundle"
    assert "recipe.json" in json.loads((bundle / "manifest.json").read_text())["files"]
    verify_bundle(bundle)
    images = torch.randn(5, 1, 8, 8)
    loaded = load_pruned(network(pulled), read_recipe(bundle), bundle / "weights.safetensors")
    with torch.inference_mode():
        np.testing.assert_allclose(scores(bundle / "model.onnx", images), loaded(images), atol=1e-4, rtol=1e-4)


def test_another_checkpoint_is_cut_alike(pulled: Desk) -> None:
    told = pulled.done("apply", "bundle", "--weights", "other.pt", "--model", "net.py:Net", "--json").json
    folder = pulled.folder / "other-pruned"
    assert told["folder"] == str(folder)
    assert set(told["files"]) == {"model.onnx", "weights.safetensors", "recipe.json"}
    verify_bundle(folder)
    before, after = read_recipe(pulled.folder / "bundle"), read_recipe(folder)
    assert after.cuts == before.cuts
    assert after.weights_sha256 != before.weights_sha256
    figures = json.loads((pulled.folder / "bundle/manifest.json").read_text())["figures"]["after_fine_tuning"]
    assert {k: v for k, v in told["figures"]["pruned"].items() if k in ("parameters", "macs", "channels")} == {
        k: figures[k] for k in ("parameters", "macs", "channels")
    }
    assert (told["recipe"]["same_weights"], told["accuracy"]) == (False, None)
    images = torch.randn(5, 1, 8, 8)
    loaded = load_pruned(network(pulled), after, folder / "weights.safetensors")
    with torch.inference_mode():
        np.testing.assert_allclose(scores(folder / "model.onnx", images), loaded(images), atol=1e-4, rtol=1e-4)


def test_ranked_anew_the_runs_own_checkpoint_keeps_the_recipes_channels(pulled: Desk) -> None:
    """The criterion, its options and the seed are the run's; so its own weights must give its own channels."""
    done = pulled.done("apply", "bundle", "--weights", "net.pt", "--rank", "criterion", "--data", "digits")
    assert "the checkpoint is the one that the recipe was made with" in done.out
    assert "layers fitted to the cut on training images" in done.out
    assert "Accuracy, 144 images" in done.out
    before, after = read_recipe(pulled.folder / "bundle"), read_recipe(pulled.folder / "net-pruned")
    assert (after.cuts, after.weights_sha256) == (before.cuts, before.weights_sha256)


def test_what_does_not_fit_is_one_line_and_leaves_nothing_behind(pulled: Desk) -> None:
    told = json.loads((pulled.folder / "bundle/recipe.json").read_text())
    pulled.write("newer.json", json.dumps({**told, "recipe": 9}))
    result = pulled.do("apply", "newer.json", "--weights", "other.pt", "--output", "refused")
    assert result.code == 2, result.err
    assert "newer.json is of version 9, this program reads up to 3" in result.error
    assert not (pulled.folder / "refused").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "nothing"}, "no such file: .*nothing"),
        ({"weights": "bundle/weights.safetensors"}, "does not fit the network"),
        ({"model": "OneTooMany"}, r"of another shape \(fc\.weight is \(10, 32\)"),
        ({"recipe": "images.json", "rank": "criterion"}, "criterion, taylor, ranks channels by what .* add --data"),
        ({"data": "imagefolder:nowhere"}, "no data folder nowhere"),
    ],
)
def test_what_does_not_fit_is_named(pulled: Desk, changes: dict[str, str], said: str) -> None:
    told = json.loads((pulled.folder / "bundle/recipe.json").read_text())
    told["cuts"][0]["criterion"] = "taylor"
    pulled.write("images.json", json.dumps(told))
    asked = ApplyRequest(
        recipe=pulled.folder / changes.get("recipe", "bundle"),
        weights=pulled.folder / changes.get("weights", "other.pt"),
        model=f"{pulled.folder / 'net.py'}:{changes.get('model', 'Net')}", data=changes.get("data"),
        rank="criterion" if "rank" in changes else "recipe",
    )  # fmt: skip
    with pytest.raises(UserError, match=said):
        apply_to_checkpoint(asked, lambda _: None)


def test_nothing_is_overwritten(pulled: Desk) -> None:
    mine = pulled.folder / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    result = pulled.do("apply", "bundle", "--weights", "other.pt", "--output", "mine")
    assert result.code == 2
    assert "mine is not empty; give a new folder" in result.error
    assert [f.name for f in mine.iterdir()] == ["thesis.txt"]


def test_the_verb_is_listed_without_importing_torch() -> None:
    import subprocess

    code = "import sys, pipeline.cli.commands.apply; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
