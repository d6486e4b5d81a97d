"""A bundle: complete, checked, and it runs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import ValidationError

from deploy.bundle import BundleFacts, write_bundle
from deploy.facts import NetworkInput
from deploy.schema import ModelEntry
from deploy.verify import verify_bundle
from pipeline import serialization
from pipeline.errors import BundleError, OutputError
from pipeline.export.format_plugin import model_format
from pipeline.measurement.calibration import Calibration
from pipeline.records import Artifact, Figures, PruningPlan
from tests.examples import artifact, calibration, device_facts, figures, measurement, power, pruned_figures, space
from tests.pipeline.export.tflite.tiny import CONVERTED, tiny

CLASSES = ("dark", "middling", "bright", "dazzling")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network whose i-th score is i times the mean of the normalised input: bright images give the last class."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.tile(np.arange(4, dtype=np.float32), (3, 1)), "weights")],
    )
    path = tmp_path / "stored.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def fed(name: str, shape: tuple[int, ...]) -> NetworkInput:
    return NetworkInput(name=name, shape=shape, mean=(0.5,) * shape[0], std=(0.1,) * shape[0])


def make_facts(**changes: Any) -> BundleFacts:
    fields: dict[str, Any] = {
        "run_id": "20261121-041500-digits-local",
        "format": model_format("onnx"),
        "classes": CLASSES,
        "input": fed("input", (3, 8, 8)),
        "space": space(),
        "device": device_facts(),
        "device_name": "pi",
        "base": figures(),
        "seed": 3,
        "versions": {"torch": "2.13.0"},
        "config": {"model": "resnet20", "target": ["latency=0.5x"]},
        "git": {"commit": "abc", "dirty": False},
    }
    return BundleFacts(**{**fields, **changes})


def write(model: Path, output: Path, *, facts: BundleFacts | None = None, **changes: Any) -> Path:
    made = stored(model, **changes)
    return write_bundle(artifact=made, files={"model.onnx": model}, facts=facts or make_facts(), output=output)


def stored(model: Path, **changes: Any) -> Artifact:
    return artifact({"model.onnx": hashlib.sha256(model.read_bytes()).hexdigest()}, **changes)


# ---------------------------------------------------------------- content


def test_a_bundle_holds_the_model_the_labels_and_how_to_use_them(model: Path, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "new" / "bundle")
    assert {f.name for f in folder.iterdir()} == {
        "model.onnx", "labels.txt", "manifest.json", "example.py", "runtime.py", "README.md", "requirements.txt",
        "test_inputs.npy", "test_outputs.model.onnx.npy", "SHA256SUMS",
    }  # fmt: skip
    assert (folder / "model.onnx").read_bytes() == model.read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == list(CLASSES)
    assert oct(folder.stat().st_mode & 0o777) == "0o755"
    verify_bundle(folder)


def test_weights_go_along_when_there_are_some(model: Path, tmp_path: Path) -> None:
    weights = tmp_path / "stored.safetensors"
    weights.write_bytes(b"weights")
    made = stored(model)
    made = replace(made, files={**made.files, "weights.safetensors": hashlib.sha256(b"weights").hexdigest()})
    files = {"model.onnx": model, "weights.safetensors": weights}
    folder = write_bundle(artifact=made, files=files, facts=make_facts(), output=tmp_path / "bundle")
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    verify_bundle(folder)


def test_the_manifest_says_all_that_is_needed_to_run_trust_and_repeat_it(model: Path, tmp_path: Path) -> None:
    made = json.loads((write(model, tmp_path / "bundle") / "manifest.json").read_text())
    assert made["schema"] == 1
    assert made["name"] == "20261121-041500-digits-local-a1"
    assert made["files"]["model.onnx"] == {
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "bytes": model.stat().st_size,
    }
    assert set(made["files"]) == {
        "model.onnx", "labels.txt", "example.py", "runtime.py", "README.md", "requirements.txt", "test_inputs.npy",
        "test_outputs.model.onnx.npy",
    }  # fmt: skip
    assert made["classes"] == list(CLASSES)
    assert (made["input"]["name"], made["input"]["shape"], made["input"]["layout"]) == ("input", [3, 8, 8], "NCHW")
    assert made["input"]["normalisation"]["mean"] == [0.5, 0.5, 0.5]
    assert made["plan"]["groups"][1] == {
        "name": "block.conv1", "layers": ["block.conv1"], "level": 75, "channels": 16, "kept": 4,
    }  # fmt: skip
    assert (made["device"]["name"], made["device"]["cpu"]) == ("pi", "Cortex-A72")
    assert serialization.load(Figures, made["figures"]["base"]) == figures()
    assert serialization.load(Figures, made["figures"]["after_fine_tuning"]) == pruned_figures()
    assert made["accuracy"]["verified"] == {"device": 0.92, "host": 0.92, "images": 500, "same_class": None}
    assert made["calibration"] is None
    assert (made["seeds"], made["git"]["commit"], made["config"]["model"]) == ({"run": 3}, "abc", "resnet20")


def test_the_manifest_of_an_int8_file_says_how_many_bits_its_weights_have(model: Path, tmp_path: Path) -> None:
    made = stored(model, precision="int8", weight_bits=7)
    folder = write_bundle(artifact=made, files={"model.onnx": model}, facts=make_facts(), output=tmp_path / "bundle")
    verify_bundle(folder)
    said = json.loads((folder / "manifest.json").read_text())["model"]
    assert said == {"file": "model.onnx", "format": "onnx", "precision": "int8", "weight_bits": 7}
    with pytest.raises(ValidationError, match="weight_bits"):
        ModelEntry.model_validate({**said, "weight_bits": 63})


def test_the_manifest_says_how_far_the_device_s_intervals_can_be_trusted(model: Path, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "bundle", facts=make_facts(calibration=calibration()))
    made = json.loads((folder / "manifest.json").read_text())
    assert serialization.load(Calibration, made["calibration"]) == calibration()


def test_a_plan_of_another_round_is_given_by_its_levels_alone(model: Path, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "bundle", plan=PruningPlan(levels=(25, 25, 25)))
    plan = json.loads((folder / "manifest.json").read_text())["plan"]
    assert (plan["levels"], plan["groups"]) == ([25, 25, 25], None)


def test_the_readme_shows_the_figures_and_how_sure_they_are(model: Path, tmp_path: Path) -> None:
    text = (write(model, tmp_path / "bundle") / "README.md").read_text()
    assert "| Latency, median | 2.73 ms ±0.02 | 1.31 ms ±0.03 | 0.48× [0.47, 0.49] |" in text
    assert "| Power | not measured | not measured |  |" in text
    assert "its ratio to the base model, measured in turns with it" in text
    assert "900 timed inferences" in text
    assert "Power and energy: not measured." in text
    assert "500 real images: 92.00% right there" in text
    assert "$" not in text


def test_the_readme_names_the_sensor_and_what_speaks_against_the_figures(model: Path, tmp_path: Path) -> None:
    after = pruned_figures(measurement=measurement(power=power(), flags=("throttled",)))
    text = (write(model, tmp_path / "bundle", after=after) / "README.md").read_text()
    assert "120 samples of ina219, which sees the whole board" in text
    assert "**Take the figures with care**: throttled." in text


def test_names_from_outside_cannot_break_the_readme_or_the_labels(model: Path, tmp_path: Path) -> None:
    facts = make_facts(device_name="a|b\n# `c`", classes=("two\nlines", "<b>", "ü", ""))
    folder = write(model, tmp_path / "bundle", facts=facts)
    assert "a\\|b # \\`c\\`" in (folder / "README.md").read_text()
    assert (folder / "labels.txt").read_text().split("\n") == ["two lines", "<b>", "ü", "", ""]


# ---------------------------------------------------------------- the example


def run_example(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "example.py"), *arguments],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_names_the_likeliest_classes_of_an_image_and_times_it(model: Path, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "bundle")
    for name, size, pixel in (("bright.png", (30, 20), (255, 255, 255)), ("dark.png", (8, 8), (0, 0, 0))):
        Image.new("RGB", size, pixel).save(tmp_path / name)
    lines = run_example(folder, str(tmp_path / "bright.png"), str(tmp_path / "dark.png")).splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["dazzling", "bright", "middling"]
    assert "median of 50 inferences" in lines[4]
    assert lines[6].split()[-1] == "dark"


def test_the_example_runs_without_an_image_and_says_that_the_answer_means_nothing(model: Path, tmp_path: Path) -> None:
    assert "random pixels, the answer means nothing" in run_example(write(model, tmp_path / "bundle"))


def test_the_example_turns_a_colour_image_grey_where_the_network_wants_grey(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["scores"])],
        "pixels",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
    )
    path = tmp_path / "grey.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    facts = make_facts(input=NetworkInput(name="image", shape=(1, 2, 2), mean=(0.0,), std=(1.0,)))
    folder = write(path, tmp_path / "bundle", facts=facts)
    image = Image.new("RGB", (2, 2), (10, 10, 10))
    image.putpixel((1, 0), (250, 250, 250))
    image.save(tmp_path / "spot.png")
    assert run_example(folder, str(tmp_path / "spot.png")).splitlines()[1].split()[-1] == CLASSES[1]


def test_a_tflite_bundle_says_what_it_needs_and_its_example_runs(tmp_path: Path) -> None:
    made = artifact({"model.tflite": hashlib.sha256(CONVERTED.read_bytes()).hexdigest()})
    facts = make_facts(format=model_format("tflite"), input=fed("image", (3, 16, 16)), classes=tuple("abcde"))
    folder = write_bundle(artifact=made, files={"model.tflite": CONVERTED}, facts=facts, output=tmp_path / "bundle")
    verify_bundle(folder)
    model = json.loads((folder / "manifest.json").read_text())["model"]
    assert model == {"file": "model.tflite", "format": "tflite", "precision": "float32"}
    assert (folder / "requirements.txt").read_text().split() == ["ai-edge-litert", "numpy", "pillow"]
    text = (folder / "README.md").read_text()
    assert "| model.tflite | the network with its weights |" in text
    assert "runs it with LiteRT" in text
    Image.new("RGB", (20, 20), (200, 30, 90)).save(tmp_path / "red.png")
    lines = run_example(folder, str(tmp_path / "red.png")).splitlines()
    with Image.open(tmp_path / "red.png") as image:
        pixels = torch.from_numpy(np.asarray(image.resize((16, 16)), np.float32)).permute(2, 0, 1)[None]
    best = int(tiny()((pixels / 255 - 0.5) / 0.1).argmax())
    assert lines[1].split()[-1] == "abcde"[best]


def test_a_bundle_holds_one_model(model: Path, tmp_path: Path) -> None:
    both = {"model.onnx": model, "model.tflite": CONVERTED}
    made = artifact({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in both.items()})
    with pytest.raises(OutputError, match=r"artifact a1 needs model\.onnx; found: model\.onnx, model\.tflite"):
        write_bundle(artifact=made, files=both, facts=make_facts(), output=tmp_path / "bundle")


# ---------------------------------------------------------------- refusals


def test_an_empty_folder_is_taken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    before = (tmp_path / "bundle").stat().st_ino
    folder = write(model, tmp_path / "bundle")
    verify_bundle(folder)
    assert folder.stat().st_ino == before
    assert not [f for f in folder.iterdir() if f.name.startswith(".")]


def test_an_empty_folder_stays_empty_when_the_bundle_fails(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(OutputError):
        write(model, tmp_path / "bundle", device_accuracy=float("nan"))
    assert list((tmp_path / "bundle").iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_left_alone(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="mine is not empty; give a new folder"):
        write(model, output)
    assert [f.name for f in output.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no folder"):
        write(model, model)


def test_a_damaged_file_is_refused_and_nothing_is_left(model: Path, tmp_path: Path) -> None:
    made = stored(model)
    model.write_bytes(b"rotten")
    with pytest.raises(OutputError, match=r"model\.onnx of artifact a1 is damaged"):
        write_bundle(artifact=made, files={"model.onnx": model}, facts=make_facts(), output=tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"artifact a1 needs model\.onnx; found: no file"):
        write_bundle(artifact=artifact({}), files={}, facts=make_facts(), output=tmp_path / "bundle")


@pytest.mark.parametrize("name", ["../evil", "manifest.json", "a/b"])
def test_a_file_that_would_leave_the_folder_or_hide_the_manifest_is_refused(
    model: Path, tmp_path: Path, name: str
) -> None:
    made = stored(model)
    made = replace(made, files={**made.files, name: made.files["model.onnx"]})
    with pytest.raises(OutputError, match="is no file's name"):
        write_bundle(
            artifact=made,
            files={"model.onnx": model, name: model},
            facts=make_facts(),
            output=tmp_path / "b" / "bundle",
        )
    assert list((tmp_path / "b").iterdir()) == []


def test_a_figure_that_is_no_number_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write(model, tmp_path / "bundle", device_accuracy=float("nan"))
    assert not (tmp_path / "bundle").exists()


def test_a_place_that_cannot_be_written_is_refused(model: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write(model, Path("/proc/bundle"))


# ---------------------------------------------------------------- verification


def test_files_that_differ_or_are_missing_are_named(model: Path, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"other")
    (folder / "labels.txt").unlink()
    with pytest.raises(
        BundleError, match=r"labels\.txt is missing, model\.onnx differs: it has 5 bytes.*; pull it again"
    ):
        verify_bundle(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        verify_bundle(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {"x": 1}}', '{"files": {"../x": {"sha256": ""}}}', "\xff"]
)
def test_a_manifest_that_makes_no_sense_is_no_bundle(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match="is no bundle"):
        verify_bundle(tmp_path)
