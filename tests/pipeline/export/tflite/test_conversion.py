"""With the real converter, whose environment is made once for all of these tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ExportError
from pipeline.export.format import open_format
from pipeline.export.formats.tflite import TFLite
from pipeline.export.tflite.environment import converter_python
from pipeline.export.tflite.flatbuffer import read
from pipeline.export.tflite.interpreter import answers
from pipeline.export.verify_outputs import difference
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny
from tests.pipeline.pruning import networks

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1200)]

SUPPORT = OnnxSupport(17, 8)


@pytest.fixture(scope="session")
def python() -> Path:
    return converter_python()


def test_the_environment_leaves_the_pipelines_own_packages_as_they_are(python: Path) -> None:
    asked = "import torch, numpy; print(torch.__file__, torch.__version__, numpy.__version__)"
    ours, theirs = (
        subprocess.run([str(p), "-c", asked], check=True, capture_output=True, text=True).stdout
        for p in (sys.executable, python)
    )
    assert theirs == ours  # the very same files: they are not there twice


def test_it_is_not_made_again(python: Path) -> None:
    notes: list[str] = []
    assert converter_python(notes.append) == python
    assert notes == []


def test_what_cannot_be_rewritten_is_converted_in_full_and_is_as_the_stored_file(python: Path) -> None:
    network = tiny()
    fresh = TFLite(python, None, IMAGES).file(network)
    found, stored = (read(data).subgraphs[0] for data in (fresh, CONVERTED.read_bytes()))
    assert found.tensors[int(found.inputs[0])].name == b"image"
    assert len(found.operators) == len(stored.operators)
    assert difference(network, IMAGES, answers(fresh, IMAGES.numpy())) <= 1e-4
    assert np.allclose(answers(fresh, IMAGES.numpy()), answers(CONVERTED.read_bytes(), IMAGES.numpy()), atol=1e-6)


class Beside(nn.Module):
    """Four kinds of networks side by side: the converter takes as long to start for each as for all."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (networks.Residual, networks.Chain, networks.Grouped, networks.Shuffle)
        self.each = nn.ModuleList(kind() for kind in kinds)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.each], 1)


def test_whatever_is_cut_is_rewritten_and_answers_as_the_network(caplog: pytest.LogCaptureFixture) -> None:
    base, space, ranking = networks.studied(Beside)
    assert {group.name.split(".")[1] for group in space.groups} == {"0", "1", "2", "3"}
    made = open_format("tflite", base, networks.IMAGES, support=SUPPORT)
    for level in (0, 50, 100):
        levels = tuple(level if level in g.kept else 0 for g in space.groups)
        network = prune(base, space, levels, ranking, networks.IMAGES)
        data = made.file(network)
        assert difference(network, networks.IMAGES, made.answers(data, networks.IMAGES.numpy())) <= 1e-4
    assert "in full" not in caplog.text


class Folding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.linalg.eigvals(self.conv(x)[:, :, :6, :6]).abs()
        return self.linear(spectrum.mean(2))


def test_an_operator_that_cannot_be_written_is_named(python: Path) -> None:
    del python
    with pytest.raises(ExportError, match="linalg_eig"):
        open_format("tflite", trace(Folding(), networks.IMAGES), networks.IMAGES, support=SUPPORT)
