"""Recordings for tests: a real agent's answers on this machine, changed where a test wants another board's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.recording import FILE_NAME, Recorder, header_of
from pipeline.records import Device, MeasureSettings
from tests.command_line import Desk

QUICK = MeasureSettings(
    warmup_s=0.0, min_s=0.05, max_s=0.1, block_s=0.01, ci_rel=0.5, processes=3, max_background_cores=64
)


def dense(*, seed: int, width: int = 32) -> bytes:
    """Return an ONNX file of one dense layer with random weights."""
    weights = np.random.default_rng(seed).standard_normal((64, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def recorded(folder: Path, use: Callable[[Agent], object]) -> Path:
    """Record what the agent on this machine answers while it is used."""
    device = Device(name="here", kind="local", agent_dir=str(folder / "agent"), measure=QUICK)
    recorder = Recorder()
    with open_agent(device, record=recorder.heard) as agent:
        use(agent)
    path = folder / "recording.jsonl.gz"
    path.unlink(missing_ok=True)
    recorder.begin(path, header_of(device, {"seed": 3, "target": "latency=0.5x"}, {}))
    recorder.close()
    return path


def rewritten(path: Path, change: Callable[[int, dict[str, Any]], None], *, board: bool = True) -> Path:
    """Return the recording with the raw result of each measurement changed in place, told its number from 0.

    ``board``: as if it had been recorded on a board of its own, not on this machine.
    """
    header, *answers = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    header["shared"] = not board
    for number, answer in enumerate(answer for answer in answers if answer["verb"] == "measure"):
        change(number, answer["result"])
    other = path.with_name("rewritten.jsonl.gz")
    other.write_bytes(b"".join(gzip.compress(json.dumps(line).encode() + b"\n") for line in (header, *answers)))
    return other


def tape(path: Path) -> Device:
    """Return the device that plays a recording back."""
    return Device(name="tape", kind="replay", recording=str(path))


def replaying(desk: Desk, run: str) -> None:
    """Register the device `tape`, and no other, which plays a run's recording back."""
    recording = desk.runs / run / FILE_NAME
    desk.write("inventory.yaml", f"version: 1\ndevices:\n  tape: {{kind: replay, recording: {recording}}}\n")


def told(run: dict[str, Any]) -> dict[str, Any]:
    """What a run and its replay agree in, of what `runs show --json` tells: plans, rewards, figures and files."""
    return {
        "trials": [
            (t["plan"], t["key"], t["reward"], t["terms"], t["failure"], t["feasible"], t["candidate"]["accuracy"])
            for t in run["trials"]
        ],
        "ratios": [t["measurement"] and t["measurement"]["ratio"] for t in run["trials"]],
        "chosen": run["chosen"],
        "artifacts": [(a["id"], _but_recipe(a["files"]), a["device_accuracy"]) for a in run["artifacts"]],
    }


def _but_recipe(files: dict[str, str]) -> dict[str, str]:
    """A recipe names the run that it comes from."""
    return {name: sha256 for name, sha256 in files.items() if name != "recipe.json"}
