"""A whole search over real SSH on a Raspberry Pi 4's programs: aarch64 Python and runtimes, under qemu-user.

One is recorded and played back without the board. Emulated speed says nothing about a board's, so nothing here looks
at the size of a latency.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pipeline.export.tflite.environment import VARIABLE, converter_python
from tests.command_line import Desk
from tests.lab.board import Board
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
"""Of 32 channels: few levels, so that few cuts are measured, where each process takes seconds to start."""
FORMATS = {"onnxruntime": "onnx", "tflite": "tflite"}
PRECISION = "int8"
RECORDED = "tflite"


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


@pytest.mark.parametrize("runtime", FORMATS)
def test_a_search_on_a_raspberry_pi_4_ends_with_verified_artifacts_and_a_recorded_one_comes_to_the_same_played_back(
    runtime: str, small_run: Desk, raspberry_pi: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime == "tflite":
        monkeypatch.setenv(VARIABLE, str(converter_python()))  # kept in this user's cache; the run's own is empty
    desk = small_run
    settings = {"runtime": runtime, "format": FORMATS[runtime], "measure": MEASURE, "channel_step": STEP}
    desk.write("inventory.yaml", raspberry_pi.inventory(**settings))
    record = ["--record"] if runtime == RECORDED else []
    desk.done("run", "--device", "pi4", "--config", "run.yaml", "--precision", PRECISION, *record)

    run = shown(desk)
    assert run["status"] == "finished"
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    assert all(trial["measurement"]["runtime"].startswith(runtime) for trial in run["trials"] if trial["measurement"])
    facts = run["facts"]
    assert (facts["machine"], facts["cpu"], facts["board"]) == (
        "aarch64",
        "Cortex-A72",
        "Raspberry Pi 4 Model B Rev 1.4",
    )
    (best,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
    assert best["verified_images"] > 0
    assert best["device_accuracy"] == pytest.approx(best["host_accuracy"], abs=0.01)  # verified there
    assert best["precision"] == PRECISION
    counted = [trial["measurement"]["conditions"].get("int8_operators") for trial in run["trials"]]
    assert all(counted) == (runtime == "onnxruntime")

    desk.done("pull", "latest", "--output", "bundle")
    manifest = json.loads((desk.folder / "bundle" / "manifest.json").read_text())
    assert f"model.{FORMATS[runtime]}" in manifest["files"]
    for name, entry in manifest["files"].items():
        content = (desk.folder / "bundle" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    raspberry_pi.assert_tidy()

    if runtime != RECORDED:
        return
    replaying(desk, run["id"])
    desk.done("run", "--device", "tape", "--config", "run.yaml", "--precision", PRECISION)
    replayed = shown(desk)
    assert (replayed["device"]["kind"], replayed["facts"]["cpu"]) == ("replay", "Cortex-A72")
    assert told(replayed) == told(run)
