"""`pipeline pull --format … --precision …`: one network in several formats, compared with each other, each a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy.verify import verify_bundle
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.environment import VARIABLE, converter_python
from tests.command_line import FEW_CUTS, Desk
from tests.pipeline.export.quantization.networks import largest_weight, weights_of

ALL = "float32,int8,fp16"


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def answers(folder: Path) -> str:
    """What a bundle's own example says, run by itself."""
    done = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def pulled(ran: Desk) -> Path:
    """Six bundles of one run, whose own file is float32 in ONNX; only to be read."""
    words = ("--format", "onnx,tensorrt", "--precision", ALL)
    ran.write("pulled.txt", ran.done("pull", "latest", "--output", "six", *words).out)
    return ran.folder / "six"


def test_each_is_a_bundle_that_holds_what_its_manifest_says(pulled: Path) -> None:
    folders = sorted(path.name for path in pulled.iterdir())
    assert folders == [f"{f}-{p}" for f in ("onnx", "tensorrt") for p in ("float32", "fp16", "int8")]
    for folder in pulled.iterdir():
        verify_bundle(folder)
        assert "random pixels" in answers(folder)


def test_only_the_one_that_the_device_measured_has_figures(ran: Desk, pulled: Path) -> None:
    stated = {path.name: manifest_of(path)["figures"]["measured_on_device"] for path in pulled.iterdir()}
    assert [name for name, measured in stated.items() if measured] == ["onnx-float32"]
    read = {path.name: manifest_of(path)["accuracy"]["test"] for path in pulled.iterdir()}
    assert [name for name, accuracy in read.items() if accuracy is not None] == ["onnx-float32"]
    ran.done("pull", "latest", "--output", "plain")
    model = (ran.folder / "plain" / "model.onnx").read_bytes()
    assert (pulled / "onnx-float32" / "model.onnx").read_bytes() == model
    out = (ran.folder / "pulled.txt").read_text()
    assert out.count("not measured") == 5
    assert "was **not measured** on local" in (pulled / "tensorrt-fp16" / "README.md").read_text()


def test_all_of_them_were_compared_with_all_others(pulled: Path) -> None:
    for folder in pulled.iterdir():
        verified = manifest_of(folder)["verified"]
        assert set(verified["against"]) == {path.name for path in pulled.iterdir()} - {folder.name}
        assert verified["images"] == 144
        least = 0.9 if folder.name.endswith("int8") else 0.99  # which network was chosen is the board's to say
        assert verified["against"].get("onnx-float32", {"same_class": 1})["same_class"] >= least
    assert manifest_of(pulled / "onnx-int8")["verified"]["against"]["onnx-float32"]["largest_difference"] > 0


def test_each_file_is_what_its_runtime_takes(pulled: Path) -> None:
    def zero_points(name: str) -> set[int]:
        graph = onnx.load(pulled / name / "model.onnx").graph
        read = {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
        return {tensor.data_type for tensor in graph.initializer if tensor.name in read}

    assert zero_points("onnx-int8") == {onnx.TensorProto.UINT8}
    assert zero_points("tensorrt-int8") == {onnx.TensorProto.INT8}
    assert zero_points("onnx-fp16") == zero_points("tensorrt-fp16") == set()
    half = onnx.load(pulled / "onnx-fp16" / "model.onnx")
    assert {tensor.data_type for tensor in half.graph.initializer} & {onnx.TensorProto.FLOAT16}
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    (asked,) = onnx.load(pulled / "tensorrt-fp16" / "model.onnx").metadata_props
    assert (asked.key, asked.value) == ("pipeline.precision", "fp16")


@pytest.mark.parametrize(("name", "scheme"), [("onnx-int8", "u8s8"), ("tensorrt-int8", "s8s8-symmetric")])
def test_int8_weights_that_the_run_did_not_decide_on_have_seven_bits(pulled: Path, name: str, scheme: str) -> None:
    said = manifest_of(pulled / name)["quantization"]
    assert (said["scheme"], said["weight_bits"]) == (scheme, 7)
    assert largest_weight((pulled / name / "model.onnx").read_bytes()) == 63


@pytest.mark.parametrize(
    ("help_says", "workspace"), [("--memPoolSize", "--memPoolSize=workspace:256"), ("", "--workspace=256")]
)
@pytest.mark.parametrize(("precision", "flags"), [("float32", []), ("fp16", ["--fp16"]), ("int8", ["--int8"])])
def test_an_engines_recipe_gives_trtexec_the_flags_of_its_precision(
    pulled: Path, tmp_path: Path, precision: str, flags: list[str], help_says: str, workspace: str
) -> None:
    folder = pulled / f"tensorrt-{precision}"
    trtexec = tmp_path / "trtexec"
    trtexec.write_text(f'#!/bin/sh\nif [ "$1" = --help ]; then echo "{help_says}"; else echo "$@"; fi\n')
    trtexec.chmod(0o755)
    done = subprocess.run(
        ["sh", folder / "build.sh"],
        env={**os.environ, "TRTEXEC": str(trtexec)},
        capture_output=True,
        text=True,
        check=True,
    )
    own = ["--onnx=model.onnx", "--saveEngine=model.engine", *flags, workspace, "--timingCacheFile=timing.cache"]
    assert done.stdout.split() == own
    recipe = json.loads((folder / "build.json").read_text())
    assert recipe["flags"] == {"fp16": precision == "fp16", "int8": precision == "int8"}
    assert recipe == manifest_of(folder)["engine"]
    assert done.stdout.strip() in [line.removeprefix("trtexec ") for line in recipe["commands"].values()]


def test_the_same_run_gives_the_same_bytes(ran: Desk, pulled: Path) -> None:
    ran.done("pull", "latest", "--output", "again", "--format", "onnx,tensorrt", "--precision", ALL)
    assert contents(ran.folder / "again") == contents(pulled)


def test_one_alone_is_the_folder_itself_and_what_is_left_out_is_the_runs_own(ran: Desk) -> None:
    (found,) = ran.done("pull", "latest", "--output", "one", "--precision", "int8", "--json").json
    assert (found["format"], found["precision"], found["measured_on_device"]) == ("onnx", "int8", False)
    assert Path(found["folder"]) == ran.folder / "one"
    verify_bundle(ran.folder / "one")
    assert set(found["against"]) == {"onnx-float32"}  # which was compared with, and not asked for


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "onx"), "--format: there is no 'onx' (did you mean 'onnx'?); known: onnx, tflite, tensorrt"),
        (("--precision", "bf16"), "--precision: there is no 'bf16'"),
        (("--format", "onnx,engine"), "--format: there is no 'engine'"),
    ],
)
def test_what_cannot_be_had_is_refused_by_what_can_be(ran: Desk, words: tuple[str, ...], said: str) -> None:
    done = ran.do("pull", "latest", "--output", "never", *words)
    assert done.code == 2
    assert said in done.error
    assert not (ran.folder / "never").exists()


def test_a_network_of_zero_weights_has_no_int8_file(desk: Desk) -> None:
    desk.settings(target="density=0.5x", strategy="purl", trials="1", **FEW_CUTS)
    desk.done("run", "--config", "run.yaml", "--epochs", "0.1")
    done = desk.do("pull", "latest", "--output", "never", "--format", "onnx,tflite", "--precision", ALL)
    assert done.code == 2
    assert "single weights of this network are zero, which no INT8 file shows; to be had: onnx-float32" in done.error


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tflite_files_of_an_onnx_run_answer_as_it_does(ran: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))  # the command's own cache is an empty one
    ran.done("pull", "latest", "--output", "lite", "--format", "tflite", "--precision", ALL)
    image = np.random.RandomState(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
    ran.done("pull", "latest", "--output", "whole", "--format", "onnx", "--precision", "float32")
    wanted = open_on_host((ran.folder / "whole" / "model.onnx").read_bytes())(image)
    for precision in ALL.split(","):
        folder = ran.folder / "lite" / f"tflite-{precision}"
        verify_bundle(folder)
        against = manifest_of(folder)["verified"]["against"]
        assert all(one["same_class"] >= 0.9 and one["of_largest_score"] < 0.2 for one in against.values())
        data = (folder / "model.tflite").read_bytes()
        if precision != "int8":  # whose ranges noise leaves: the digits' own images were compared
            assert np.abs(open_on_host(data)(image) - wanted).max() < 0.01 * np.abs(wanted).max()
        assert flatbuffer.is_tflite(data)
        assert "random pixels" in answers(folder)
    sizes = {
        p: (ran.folder / "lite" / f"tflite-{p}" / "model.tflite").stat().st_size for p in ("float32", "fp16", "int8")
    }
    weights = weights_of((ran.folder / "whole" / "model.onnx").read_bytes())
    assert sizes["int8"] < sizes["fp16"] < sizes["float32"] - 1.5 * weights  # of two bytes each
