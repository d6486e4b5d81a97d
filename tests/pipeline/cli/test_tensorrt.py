"""Runs on a TensorRT that is a stand-in for NVIDIA's: FP16 as a decision of the run, told, kept, handed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from deploy.bundle import verify_bundle
from tests.command_line import FEW_CUTS, INVENTORY, Desk
from tests.tensorrt_board import ORIN, TensorRTBoard, make_tensorrt_board

RUN = ("run", "--config", "run.yaml", "--device", "nano", "--epochs", "0.1")


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> TensorRTBoard:
    return make_tensorrt_board(tmp_path_factory.mktemp("tensorrt") / "board")


@pytest.fixture(autouse=True)
def gpu(board: TensorRTBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in board.environment().items():
        monkeypatch.setenv(name, value)


def on_board(desk: Desk, board: TensorRTBoard, **settings: str) -> Desk:
    """Give a folder the board, called nano, and settings."""
    inventory = INVENTORY.replace("AGENT", str(desk.folder / "agent")).rstrip()
    own = f"{{dir: {desk.folder / 'agent'}, python: {board.python}}}"
    desk.write(
        "inventory.yaml", f"{inventory}\n  nano: {{kind: local, power: null, runtime: tensorrt, agent: {own}}}\n"
    )
    desk.settings(**{"target": "latency=0.95x", "trials": "3", **FEW_CUTS, **settings})
    return desk


@pytest.fixture(scope="module")
def fp16(new_desk: Callable[[], Desk], board: TensorRTBoard) -> Iterator[Desk]:
    """A folder with one finished run on a Jetson Nano's GPU that decided by itself; only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in board.environment().items():
            patch.setenv(name, value)
        desk = on_board(new_desk(), board, precision="auto")
        desk.write("shown.txt", (done := desk.done(*RUN, "--record")).out)
        desk.write("told.txt", done.err)
        yield desk


def shown(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return found


@pytest.mark.slow
def test_auto_takes_fp16_where_the_gpu_is_faster_by_it_and_says_that_a_nano_has_no_int8(fp16: Desk) -> None:
    run = shown(fp16)
    decision = run["precision"]
    assert decision["precision"] == "fp16"
    assert decision["base"]["measurement"]["ratio"]["value"] == pytest.approx(0.6, abs=0.1)
    assert "read on the device" in decision["why"]
    assert "INT8 is not to be had: Virtual GPU sm_53 has no instructions for it" in decision["why"]
    assert decision["why"] in " ".join((fp16.folder / "told.txt").read_text().split())
    assert run["base"]["measurement"]["conditions"]["precision"] == "fp32"
    for trial in run["trials"]:
        assert trial["measurement"]["conditions"]["precision"] == "fp16"
