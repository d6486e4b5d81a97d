"""Runs on a TensorRT that is a stand-in for NVIDIA's: FP16 as a decision of the run, told, kept, handed over."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from deploy.verify import verify_bundle
from tests.command_line import FEW_CUTS, Desk
from tests.tensorrt_board import ORIN, TensorRTBoard, make_tensorrt_board

RUN = ("run", "--config", "run.yaml", "--device", "nano", "--epochs", "0.1")


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> TensorRTBoard:
    return make_tensorrt_board(tmp_path_factory.mktemp("tensorrt") / "board")


@pytest.fixture(autouse=True)
def gpu(board: TensorRTBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(board.library))


def on_board(desk: Desk, board: TensorRTBoard, runtime: str = "tensorrt", processes: int = 3, **settings: str) -> Desk:
    """Give a folder the board, called nano, and settings: one single cut to measure, one finalist.

    Args:
        processes: in which each network is measured; more than one where a decision hangs on it.
    """
    inventory = (desk.folder / "inventory.yaml").read_text().rstrip()
    own = f"{{dir: {desk.folder / 'agent'}, python: {board.python}}}"
    longer = f"{{min_s: 0.1, processes: {processes}}}"
    nano = f"{{kind: local, power: null, runtime: {runtime}, measure: {longer}, agent: {own}}}"
    desk.write("inventory.yaml", f"{inventory}\n  nano: {nano}\n")
    desk.settings(**{"target": "latency=0.95x", "trials": "2", **FEW_CUTS, **settings})
    return desk


@pytest.fixture(scope="module")
def fp16(new_desk: Callable[[], Desk], board: TensorRTBoard) -> Iterator[Desk]:
    """A folder with one finished run on a Jetson Nano's GPU that decided by itself; only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(board.library))
        desk = on_board(new_desk(), board, "[tensorrt, onnxruntime]", precision="auto")
        desk.write("shown.txt", (done := desk.done(*RUN, "--record")).out)
        desk.write("told.txt", done.err)
        yield desk


@pytest.fixture(scope="module")
def bundle(fp16: Desk) -> Path:
    """The same run's bundle; only to be read."""
    fp16.done("pull", "latest", "--output", "bundle")
    return fp16.folder / "bundle"


def shown(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return found


@pytest.mark.slow
def test_auto_takes_fp16_where_the_gpu_is_faster_by_it_and_says_that_a_nano_has_no_int8(fp16: Desk) -> None:
    run = shown(fp16)
    decision = run["precision"]
    assert decision["precision"] == "fp16", decision["why"]
    assert decision["base"]["measurement"]["ratio"]["value"] < 0.8
    assert "read on the device" in decision["why"]
    assert "INT8 is not to be had: Virtual GPU sm_53 has no instructions for it" in decision["why"]
    assert decision["why"] in " ".join((fp16.folder / "told.txt").read_text().split())
    assert run["base"]["measurement"]["conditions"]["precision"] == "fp32"
    for trial in run["trials"]:
        assert trial["measurement"]["conditions"]["precision"] == "fp16"


@pytest.mark.slow
def test_a_board_whose_python_finds_tensorrt_runs_on_its_gpu_and_says_so(fp16: Desk) -> None:
    said = "networks run on the GPU with tensorrt 8.2.1.8: the first of tensorrt, onnxruntime, and the board has it"
    assert said in " ".join((fp16.folder / "told.txt").read_text().split())
    assert said in " ".join(fp16.done("devices", "check", "nano").out.split())
    assert "tensorrt or onnxruntime" in fp16.done("devices", "list").out
    assert shown(fp16)["device"]["runtime"] == "tensorrt"


@pytest.mark.slow
def test_the_four_corners_name_the_precision(fp16: Desk) -> None:
    lines = [line for line in (fp16.folder / "shown.txt").read_text().splitlines() if line[:6] in ("base, ", "pruned")]
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "base, float32", "base, FP16", "pruned, float32", "pruned, FP16"
    ]  # fmt: skip
    assert "pruned, FP16" in next(fp16.runs.glob("*/report.html")).read_text()


@pytest.mark.slow
def test_the_bundles_file_asks_for_fp16_itself(bundle: Path) -> None:
    verify_bundle(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["model"]["precision"] == "fp16"
    assert manifest["figures"]["float_parent"]["measurement"]["conditions"]["precision"] == "fp32"
    properties = onnx.load(bundle / "model.onnx").metadata_props
    assert [(one.key, one.value) for one in properties] == [("pipeline.precision", "fp16")]


@pytest.mark.slow
def test_a_recipe_says_that_its_run_computed_in_fp16_and_apply_writes_such_a_file(
    fp16: Desk, bundle: Path, tmp_path: Path
) -> None:
    decisions = json.loads((bundle / "recipe.json").read_text())["decisions"]
    assert decisions == {"precision": {"value": "fp16"}}
    words = ("--weights", "net.pt", "--output", str(tmp_path / "applied"))
    done = fp16.done("apply", str(bundle), *words)
    assert "model.onnx asks TensorRT for FP16" in " ".join(done.out.split())
    manifest = json.loads((tmp_path / "applied" / "manifest.json").read_text())
    assert manifest["model"]["precision"] == "fp16"
    (asked,) = onnx.load(tmp_path / "applied" / "model.onnx").metadata_props
    assert asked.value == "fp16"


@pytest.mark.slow
def test_a_recorded_run_played_back_decides_alike(fp16: Desk) -> None:
    (folder,) = fp16.runs.iterdir()
    before = shown(fp16)
    tape = f"version: 1\ndevices:\n  tape: {{kind: replay, recording: {folder / 'recording.jsonl.gz'}}}\n"
    fp16.write("tape.yaml", tape)
    played = ("run", "--config", "run.yaml", "--device", "tape", "--inventory", "tape.yaml", "--runs", "played")
    after = fp16.done(*played, "--epochs", "0.1", "--json").json
    assert after["precision"]["precision"] == "fp16"
    assert after["precision"]["why"] == before["precision"]["why"]
    assert [t["plan"] for t in after["trials"]] == [t["plan"] for t in before["trials"]]


@pytest.mark.slow
def test_a_gpu_that_has_int8_gets_files_as_tensorrt_takes_them(desk: Desk, tmp_path: Path) -> None:
    on_board(desk, make_tensorrt_board(tmp_path / "orin", ORIN), processes=1, precision="int8", trials="1")
    desk.done(*RUN)
    decision = shown(desk)["precision"]
    assert decision["precision"] == "int8", decision["why"]
    desk.done("pull", "latest", "--output", "bundle")
    graph = onnx.load(desk.folder / "bundle" / "model.onnx").graph
    zeros = {node.input[2] for node in graph.node if "Quantize" in node.op_type or "Dequantize" in node.op_type}
    tensors = {one.name: one for one in graph.initializer}
    assert {tensors[name].data_type for name in zeros} == {onnx.TensorProto.INT8}
    assert not any(onnx.numpy_helper.to_array(tensors[name]).any() for name in zeros)


@pytest.mark.slow
def test_where_fp16_is_no_faster_the_run_computes_in_float32_and_says_so(desk: Desk, tmp_path: Path) -> None:
    on_board(desk, make_tensorrt_board(tmp_path / "slow", fp16="1.5"), precision="auto", trials="1")
    desk.done(*RUN)
    decision = shown(desk)["precision"]
    assert decision["precision"] == "float32", decision["why"]
    assert "FP16 is no faster on nano (" in decision["why"]


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [
        ("local", "fp16", "precision fp16: local runs onnxruntime, which computes no faster in FP16 on a processor"),
        ("nano", "int8", "precision int8: INT8 is not to be had: Virtual GPU sm_53 has no instructions for it"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused_with_the_reason(
    desk: Desk, board: TensorRTBoard, device: str, precision: str, words: str
) -> None:
    on_board(desk, board)
    done = desk.do("run", "--config", "run.yaml", "--device", device, "--precision", precision)
    assert done.code == 2
    assert words in done.error
    assert len(list(desk.runs.glob("*"))) == (0 if device == "local" else 1)


def test_an_inventory_that_builds_everything_in_half_precision_leaves_nothing_to_decide(
    desk: Desk, board: TensorRTBoard
) -> None:
    on_board(desk, board)
    inventory = (desk.folder / "inventory.yaml").read_text()
    desk.write(
        "inventory.yaml", inventory.replace("runtime: tensorrt", "runtime: tensorrt, runtime_options: {fp16: true}")
    )
    done = desk.do("run", "--config", "run.yaml", "--device", "nano", "--precision", "fp16")
    assert done.code == 2
    assert "runtime option fp16 builds every engine of nano in half precision, the base's too" in done.error


@pytest.mark.slow
def test_its_engines_come_as_recipes_and_what_the_gpu_cannot_is_said(fp16: Desk, tmp_path: Path) -> None:
    words = ("--format", "tensorrt", "--precision", "float32,int8,fp16", "--json")
    found = fp16.done("pull", "latest", "--output", str(tmp_path / "engines"), *words).json
    by_precision = {one["precision"]: one for one in found}
    assert {name: one["measured_on_device"] for name, one in by_precision.items()} == {
        "float32": True, "int8": False, "fp16": True
    }  # fmt: skip
    assert by_precision["fp16"]["doubts"] == []
    assert "INT8 is not to be had: Virtual GPU sm_53" in by_precision["int8"]["doubts"][0]
    recipe = json.loads((tmp_path / "engines" / "tensorrt-fp16" / "build.json").read_text())
    assert recipe["flags"] == {"fp16": True, "int8": False}
    assert recipe["measured_with"] == {"tensorrt": "8.2.1.8", "gpu": "Virtual GPU sm_53"}
    assert not onnx.load(tmp_path / "engines" / "tensorrt-float32" / "model.onnx").metadata_props


@pytest.mark.slow
def test_on_the_runs_own_board_a_build_begins_with_the_layers_times_that_the_agent_has_taken(
    fp16: Desk, tmp_path: Path
) -> None:
    words = ("--output", str(tmp_path / "engine"), "--format", "tensorrt", "--precision", "fp16")
    fp16.done("pull", "latest", *words)
    trtexec = tmp_path / "trtexec"
    trtexec.write_text("#!/bin/sh\n")
    trtexec.chmod(0o755)
    subprocess.run(["sh", tmp_path / "engine" / "build.sh"], env={**os.environ, "TRTEXEC": str(trtexec)}, check=True)
    (known,) = (fp16.folder / "agent" / "files").glob("*.timings")
    assert (tmp_path / "engine" / "timing.cache").read_bytes() == known.read_bytes()
