"""A whole search over real SSH on a Raspberry Pi 4's programs: aarch64 Python and runtimes, under qemu-user.

It is recorded and played back without the board. Emulated speed says nothing about a board's, so nothing here looks
at the size of a latency; each process that computes takes seconds to start, so there are few of them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.devices.agent_client import open_agent
from pipeline.export.formats.tflite import TFLite, template_of
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.open_int8 import open_int8
from tests.command_line import Desk
from tests.lab.board import Board
from tests.lab.conftest import SETTINGS, device_of
from tests.lab.networks import CHAIN
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny
from tests.recordings import replaying, told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

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


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def test_a_search_on_a_raspberry_pi_4_ends_with_verified_artifacts_and_comes_to_the_same_played_back(
    small_run: Desk, raspberry_pi: Board
) -> None:
    desk = small_run
    desk.write("net.py", (desk.folder / "net.py").read_text() + CHAIN)
    desk.settings(**{**SETTINGS, "model": "net.py:Chain", "pruning": "{protect: [stem]}"})
    settings = {"runtime": "onnxruntime", "measure": MEASURE, "channel_step": STEP}
    desk.write("inventory.yaml", raspberry_pi.inventory(**settings))
    desk.done("run", "--device", "pi4", "--config", "run.yaml", "--precision", PRECISION, "--record")

    run = shown(desk)
    assert run["status"] == "finished"
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    measured = [trial["measurement"] for trial in run["trials"] if trial["measurement"]]
    assert all(one["runtime"].startswith("onnxruntime") and one["conditions"]["int8_operators"] for one in measured)
    facts = run["facts"]
    assert (facts["machine"], facts["cpu"], facts["board"]) == FACTS
    (best,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
    assert best["verified_images"] > 0
    assert best["device_accuracy"] == pytest.approx(best["host_accuracy"], abs=0.01)  # verified there
    assert best["precision"] == PRECISION

    desk.done("pull", "latest", "--output", "bundle")
    manifest = json.loads((desk.folder / "bundle" / "manifest.json").read_text())
    assert "model.onnx" in manifest["files"]
    for name, entry in manifest["files"].items():
        content = (desk.folder / "bundle" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    raspberry_pi.assert_tidy()

    replaying(desk, run["id"])
    desk.done("run", "--device", "tape", "--config", "run.yaml", "--precision", PRECISION)
    replayed = shown(desk)
    assert (replayed["device"]["kind"], replayed["facts"]["cpu"]) == ("replay", "Cortex-A72")
    assert told(replayed) == told(run)


def test_tflite_there_computes_in_float32_and_in_int8_and_answers_as_here(raspberry_pi: Board, tmp_path: Path) -> None:
    parent = TFLite(Path(sys.executable), template_of(CONVERTED.read_bytes(), tiny(), IMAGES), IMAGES)
    images = IMAGES.numpy()
    int8 = open_int8(parent, images)
    wide, narrow = parent.file(tiny(seed=4)), int8.file(tiny(seed=4))
    device = device_of(raspberry_pi, tmp_path, runtime="tflite", format="tflite", measure=MEASURE)
    with open_agent(device) as agent:
        assert (agent.facts.machine, agent.facts.cpu, agent.facts.board) == FACTS
        measured = agent.measure(int8.skeleton(tiny(seed=4)).data, "skeleton", reference=(wide, "tflite"))
        assert measured.runtime.startswith("tflite ")
        assert measured.ratio is not None
        for file in (wide, narrow):
            here = open_on_host(file)(images)
            there = agent.verify(file, images, "tflite")
            np.testing.assert_allclose(there, here, atol=0.02 * np.abs(here).max())
    raspberry_pi.assert_tidy()
