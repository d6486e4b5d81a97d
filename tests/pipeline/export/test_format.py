from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from pipeline.errors import ConfigError, ModelError
from pipeline.export.format import INPUT, OUTPUT, open_format
from pipeline.export.format_plugin import model_format, require_usable
from pipeline.records import OnnxSupport
from tests.pipeline.export.tflite.tiny import IMAGES, tiny

SUPPORT = OnnxSupport(13, 7)


def test_onnx_is_a_format() -> None:
    network = tiny()
    made = open_format("onnx", network, IMAGES, support=SUPPORT)
    data = made.file(network)
    assert model_format("onnx").ending == "onnx"
    assert abs(made.answers(data, IMAGES.numpy()) - network(IMAGES).detach().numpy()).max() < 1e-4
    weightless = made.skeleton(network)
    assert len(weightless.data) < 0.1 * len(data)
    assert weightless.size_bytes == len(data)
    graph = onnx.load_from_string(data).graph
    assert (graph.input[0].name, graph.output[0].name) == (INPUT, OUTPUT)


def test_an_unknown_format_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no 'tflight' among the formats \(did you mean 'tflite'\?\)"):
        open_format("tflight", tiny(), IMAGES, support=SUPPORT)


def test_what_a_format_of_ones_own_returns_has_to_write_networks(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        'ENDING, RUNTIME, PACKAGES = "net", "none", ()\n'
        "def open_network(path): ...\n"
        "class Own:\n    def file(self, network): ...\n"
        "def open_format(base, example, *, support, on_note): return Own()\n"
    )
    with pytest.raises(
        ConfigError, match=r"own\.py: what open_format returns has no precision, skeleton, answers; see"
    ):
        open_format(str(own), tiny(), IMAGES, support=SUPPORT)


def test_a_users_file_is_held_against_the_devices_limits() -> None:
    network = tiny()
    data = open_format("onnx", network, IMAGES, support=OnnxSupport(17, 8)).file(network)
    require_usable("onnx", data, None, shown="a.onnx")
    with pytest.raises(ModelError, match=r"a\.onnx: opset 17, IR 8: the device's runtime loads up to opset 13"):
        require_usable("onnx", data, SUPPORT, shown="a.onnx")
