"""A whole search over real SSH on a Raspberry Pi 4's programs: aarch64 Python and runtimes, under qemu-user.

It is recorded and played back without the board. Emulated speed says nothing about a board's, so nothing here looks
at the size of a latency; each process that computes takes seconds to start, so there are few of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.devices.agent_client import open_agent
from pipeline.evaluation.device_bench import require_int8
from pipeline.export.onnx.exporter import export
from pipeline.export.quantization.host_model import HostModel
from pipeline.export.quantization.qdq import S8S8, U8S8
from pipeline.export.quantization.quantize import calibrate, quantize
from pipeline.export.tflite.environment import VARIABLE, converter_python
from tests.command_line import Desk
from tests.lab.board import Board
from tests.lab.conftest import SETTINGS, device_of
from tests.recordings import replaying, told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]

MEASURE = {
    "warmup_s": 0.02,
    "min_s": 0.1,
    "max_s": 0.5,
    "block_s": 0.02,
    "ci_rel": 0.5,
    "processes": 1,
    "max_background_cores": 64,
}
STEP = 16
"""Of 32 channels: few levels, so that few cuts are measured."""
PRECISION = "int8"
FACTS = ("aarch64", "Cortex-A72", "Raspberry Pi 4 Model B Rev 1.4")
CHAIN = """

class Chain(nn.Module):
    '''Of two convolutions, so that few blocks are tried in float32.'''

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.bn2(self.conv(self.bn(self.stem(x)).relu())).relu()
        return self.fc(x.mean((2, 3)))
"""


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def test_a_search_on_a_raspberry_pi_4_ends_with_verified_artifacts_and_comes_to_the_same_played_back(
    small_run: Desk, raspberry_pi: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))  # kept in this user's cache; the run's own is empty
    desk = small_run
    desk.write("net.py", (desk.folder / "net.py").read_text() + CHAIN)
    desk.settings(**{**SETTINGS, "model": "net.py:Chain", "pruning": "{protect: [stem]}"})
    settings = {"runtime": "tflite", "format": "tflite", "measure": MEASURE, "channel_step": STEP}
    desk.write("inventory.yaml", raspberry_pi.inventory(**settings))
    desk.done("run", "--device", "pi4", "--config", "run.yaml", "--precision", PRECISION, "--record")

    run = shown(desk)
    assert run["status"] == "finished"
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    assert all(trial["measurement"]["runtime"].startswith("tflite") for trial in run["trials"] if trial["measurement"])
    facts = run["facts"]
    assert (facts["machine"], facts["cpu"], facts["board"]) == FACTS
    (best,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
    assert best["verified_images"] > 0
    assert best["device_accuracy"] == pytest.approx(best["host_accuracy"], abs=0.01)  # verified there
    assert best["precision"] == PRECISION

    desk.done("pull", "latest", "--output", "bundle")
    manifest = json.loads((desk.folder / "bundle" / "manifest.json").read_text())
    assert "model.tflite" in manifest["files"]
    for name, entry in manifest["files"].items():
        content = (desk.folder / "bundle" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    raspberry_pi.assert_tidy()

    replaying(desk, run["id"])
    desk.done("run", "--device", "tape", "--config", "run.yaml", "--precision", PRECISION)
    replayed = shown(desk)
    assert (replayed["device"]["kind"], replayed["facts"]["cpu"]) == ("replay", "Cortex-A72")
    assert told(replayed) == told(run)


def test_onnxruntime_there_computes_both_forms_of_int8_and_answers_as_here(
    raspberry_pi: Board, network: torch.nn.Module, digits: torch.Tensor, tmp_path: Path
) -> None:
    device = device_of(raspberry_pi, tmp_path, runtime="onnxruntime", measure=MEASURE)
    with open_agent(device) as agent:
        assert (agent.facts.machine, agent.facts.cpu, agent.facts.board) == FACTS
        model = export(network, digits, agent.onnx_support)
        float_model = onnx.load_from_string(model)
        ranges = calibrate(float_model, digits.numpy())
        for scheme in (U8S8, S8S8):
            made = quantize(float_model, ranges, scheme=scheme, operators=agent.int8_operators)
            measured = agent.measure(made.data, "onnx", reference=(model, "onnx"))
            assert measured.runtime.startswith("onnxruntime")
            assert measured.ratio is not None
            require_int8(measured, made.planned, "pi4")
        found, here = agent.verify(made.data, digits.numpy()), HostModel(made.data).scores(digits.numpy())
    assert (found.argmax(1) == here.argmax(1)).mean() >= 0.9
    assert np.abs(found - here).max() < 0.05 * np.abs(here).max()
    raspberry_pi.assert_tidy()
