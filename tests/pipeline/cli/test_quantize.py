"""`pipeline quantize` as a user meets it: a run's network and a file of one's own, on a real agent."""

from __future__ import annotations

import json
import subprocess
import sys

import onnxruntime
import pytest
import torch

from deploy.verify import verify_bundle
from pipeline.data import load_data
from pipeline.export.onnx.exporter import export
from pipeline.models import load_model
from pipeline.records import OnnxSupport
from tests.command_line import Desk
from tests.pipeline.export.quantization.networks import HERE, largest_weight, weights_of


@pytest.fixture(scope="module")
def quantized(ran: Desk) -> Desk:
    """The desk with a run, whose network became INT8."""
    done = ran.done("quantize", "latest", "--output", "int8")
    ran.write("int8.txt", done.out)
    return ran


def test_a_runs_network_becomes_an_int8_bundle(quantized: Desk) -> None:
    folder = quantized.folder / "int8"
    verify_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    made = manifest["quantization"]
    assert (made["precision"], made["scheme"], made["float_layers"]) == ("int8", "u8s8", [])
    assert made["weight_bits"] == HERE.weight_bits
    assert largest_weight((folder / "model.onnx").read_bytes()) == HERE.largest_weight
    assert made["operators"] >= 3  # of a network whose block may be gone
    accuracy = manifest["accuracy"]
    assert accuracy["images"] == len(load_data("digits").test)
    assert abs(accuracy["float32"] - accuracy["int8"]) < 0.05
    assert accuracy["agreement"] > 0.9
    sizes = {name: manifest["figures"][name]["size_bytes"] for name in ("int8", "float32")}
    assert sizes["int8"] < sizes["float32"] - 2 * weights_of((folder / "float32.onnx").read_bytes())  # of three each
    ratio = manifest["figures"]["int8"]["measurement"]["ratio"]
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert manifest["figures"]["int8"]["measurement"]["conditions"]["int8_operators"] >= 3
    assert manifest["verified"]["same_class"] >= 0.99
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"


def test_the_table_stands_float32_beside_int8(quantized: Desk) -> None:
    text = (quantized.folder / "int8.txt").read_text()
    for word in (
        "float32",
        "INT8",
        f"Accuracy, {len(load_data('digits').test)} test images",
        "Latency, median",
        "Model file",
        "points [",
    ):
        assert word in text
    assert "operators compute in INT8" in text
    assert "into the class that this machine finds" in text


def test_its_example_runs(quantized: Desk) -> None:
    folder = quantized.folder / "int8"
    found = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=True)
    assert "random pixels" in found.stdout


def test_a_file_of_ones_own_takes_data_and_calibrates_on_its_training_images(
    desk: Desk,
) -> None:
    network = load_model(f"{desk.folder / 'net.py'}:Net", classes=10, channels=1, weights=desk.folder / "net.pt")
    example = next(load_data("digits").train.batches(4))[0]
    (desk.folder / "mine.onnx").write_bytes(export(network.eval(), example, OnnxSupport(17, 8)))
    told = desk.done("quantize", "mine.onnx", "--data", "digits", "--images", "16", "--float-ends", "--json").json
    assert told["folder"] == str(desk.folder / "mine-int8")
    assert told["quantization"]["calibration"]["images"] == 16
    assert len(told["quantization"]["float_layers"]) == 2
    assert told["source"] == "mine.onnx"


def refused(desk: Desk, *arguments: str) -> str:
    done = desk.do(*arguments)
    assert done.code == 2
    return done.error


def test_what_does_not_fit_is_said(ran: Desk, desk: Desk) -> None:
    torch.manual_seed(0)
    network = load_model(f"{desk.folder / 'net.py'}:Net", classes=7, channels=1, weights=None)
    (desk.folder / "seven.onnx").write_bytes(export(network.eval(), torch.randn(2, 1, 8, 8), OnnxSupport(17, 8)))
    (desk.folder / "text.onnx").write_text("no network")
    assert "Give --data" in refused(desk, "quantize", "seven.onnx")
    assert "10 classes" in refused(desk, "quantize", "seven.onnx", "--data", "digits")
    assert "is not a valid ONNX file" in refused(desk, "quantize", "text.onnx", "--data", "digits")
    assert "give the path of an ONNX or TFLite file" in refused(desk, "quantize", "none.onnx", "--data", "digits")
    assert "neither a file elsewhere nor a run" in refused(desk, "quantize", "elsewhere")
    assert "has no artifact 'other'" in refused(ran, "quantize", "latest", "--artifact", "other")
    assert "is not empty" in refused(ran, "quantize", "latest", "--output", "runs")
