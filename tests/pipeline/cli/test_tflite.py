"""What the command line does with TFLite files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from deploy.verify import verify_bundle
from pipeline.export.tflite.environment import VARIABLE, converter_python
from pipeline.export.tflite.flatbuffer import read, write
from tests.command_line import FEW_CUTS, INVENTORY, Desk
from tests.pipeline.export.tflite.tiny import CONVERTED


@pytest.fixture
def desk(tmp_path: Path, weights: Path) -> Desk:
    desk = Desk(tmp_path, weights)
    lines = INVENTORY.replace("AGENT", str(tmp_path / "agent")).rstrip()
    board = f"  board: {{kind: local, power: null, runtime: tflite, agent: {{dir: {tmp_path / 'agent'}}}}}\n"
    desk.write("inventory.yaml", f"{lines}\n{board}")
    (tmp_path / "tiny.tflite").write_bytes(CONVERTED.read_bytes())
    return desk


def test_a_tflite_file_is_profiled_on_a_device_whose_runtime_loads_it(desk: Desk) -> None:
    measured = desk.done("profile", "tiny.tflite", "--device", "board", "--json").json
    assert measured["runtime"].startswith("tflite ")
    assert measured["p50_ms"]["value"] > 0


@pytest.mark.parametrize(
    ("file", "device", "said"),
    [
        ("tiny.tflite", "local", "tiny.tflite is of format tflite, but local runs onnx files (runtime onnxruntime)"),
        ("other.onnx", "board", "other.onnx is of format onnx, but board runs tflite files (runtime tflite)"),
        ("broken.tflite", "board", "broken.tflite is not a valid TFLite file"),
    ],
)
def test_a_file_that_the_device_cannot_run_is_refused(desk: Desk, file: str, device: str, said: str) -> None:
    if not (desk.folder / file).exists():
        (desk.folder / file).write_bytes(b"nothing")
    refused = desk.do("profile", file, "--device", device)
    assert refused.code == 2
    assert said in refused.error


@pytest.fixture
def photographed(desk: Desk) -> Desk:
    """The desk with images of the size and as many classes as the stored file's."""
    generator = np.random.default_rng(0)
    for number in range(5):
        folder = desk.folder / "photos" / f"class{number}"
        folder.mkdir(parents=True)
        for image in range(24):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{image}.png")
    return desk


def test_a_tflite_file_becomes_int8_beside_its_parent(photographed: Desk) -> None:
    desk = photographed
    done = desk.done("quantize", "tiny.tflite", "--data", "imagefolder:photos", "--device", "board", "--json")
    told, folder = done.json, desk.folder / "tiny-int8"
    verify_bundle(folder)
    assert told["model"] == {"file": "model.tflite", "format": "tflite"}
    assert (told["quantization"]["scheme"], told["quantization"]["activations"]) == ("static-wi8-ai8", "int8")
    assert told["quantization"]["parent"]["file"] == "float32.tflite"
    assert (folder / "float32.tflite").read_bytes() == CONVERTED.read_bytes()
    assert schema.TensorType.INT8 in types(folder / "model.tflite")
    assert told["verified"]["same_class"] >= 0.99
    assert told["accuracy"]["agreement"] > 0.5
    assert told["figures"]["int8"]["measurement"]["ratio"]["value"] > 0
    shown = subprocess.run([sys.executable, str(folder / "example.py")], capture_output=True, text=True, check=True)
    assert "median of 50 inferences" in shown.stdout


def test_what_cannot_become_int8_tflite_is_said(photographed: Desk) -> None:
    desk = photographed
    data = ("--data", "imagefolder:photos")
    assert "is a TFLite file, and local runs onnx files" in refused(desk, "quantize", "tiny.tflite", *data)
    desk.done("quantize", "tiny.tflite", *data, "--device", "board", "--output", "once", "--float-ends")
    again = ("quantize", "once/model.tflite", *data, "--device", "board", "--output", "twice")
    assert "is quantized already; give the float32 file" in refused(desk, *again)
    last = read(CONVERTED.read_bytes())
    graph = last.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 16, 16, 3]
    (desk.folder / "last.tflite").write_bytes(write(last))
    assert "channels last" in refused(desk, "quantize", "last.tflite", *data, "--device", "board")


def refused(desk: Desk, *arguments: str) -> str:
    done = desk.do(*arguments)
    assert done.code == 2, done.err
    return done.error


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_runs_onnx_network_becomes_int8_tflite_for_a_device_that_runs_that(
    desk: Desk, ran: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))
    there = ("--inventory", str(desk.folder / "inventory.yaml"), "--device", "board")
    told = ran.done("quantize", "latest", *there, "--output", str(desk.folder / "made"), "--json").json
    assert told["model"] == {"file": "model.tflite", "format": "tflite"}
    assert told["accuracy"]["agreement"] > 0.9
    assert told["verified"]["same_class"] >= 0.99


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_whole_run_ends_in_a_tflite_bundle_whose_example_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))  # the command's own cache is an empty one
    settings = desk.settings("tflite.yaml", trials="2", **FEW_CUTS)
    desk.done("run", "--device", "board", "--config", settings, "--target", "size=0.9x")
    desk.done("pull", "latest", "--output", "bundle")
    bundle = desk.folder / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["model"] == {"file": "model.tflite", "format": "tflite", "precision": "float32"}
    verified = manifest["accuracy"]["verified"]
    assert verified["device"] == verified["host"]
    shown = subprocess.run([sys.executable, str(bundle / "example.py")], capture_output=True, text=True, check=True)
    assert "median of 50 inferences" in shown.stdout
    assert desk.done("profile", "bundle/model.tflite", "--device", "board", "--json").json["inferences"] > 0


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_in_int8_judges_and_measures_int8_files_and_hands_over_one_with_its_parent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))
    settings = desk.settings("tflite.yaml", precision="int8", target="latency=3x", trials="2", **FEW_CUTS)
    told = desk.done("run", "--device", "board", "--config", settings)
    assert "networks compute in INT8: uncut it has" in " ".join(told.err.split())
    assert "preserve_all_tensors" not in told.err
    run = desk.done("runs", "show", "latest", "--json").json
    assert run["precision"]["precision"] == "int8"
    assert all(trial["candidate"]["size_bytes"] < 0.6 * run["base"]["size_bytes"] for trial in run["trials"])
    bundle = desk.folder / "bundle"
    desk.done("pull", "latest", "--output", "bundle")
    verify_bundle(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    model = {key: said for key, said in manifest["model"].items() if key != "float_layers"}  # as this processor gains
    assert model == {"file": "model.tflite", "format": "tflite", "precision": "int8", "weight_bits": 8}
    assert manifest["figures"]["float_parent"]["size_bytes"] == (bundle / "float32.tflite").stat().st_size
    kinds = {name: types(bundle / f"{name}.tflite") for name in ("model", "float32")}
    assert {name: schema.TensorType.INT8 in found for name, found in kinds.items()} == {"model": True, "float32": False}
    shown = subprocess.run([sys.executable, str(bundle / "example.py")], capture_output=True, text=True, check=True)
    assert "median of 50 inferences" in shown.stdout


def types(file: Path) -> set[int]:
    return {tensor.type for tensor in read(file.read_bytes()).subgraphs[0].tensors}
