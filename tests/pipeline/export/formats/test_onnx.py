from __future__ import annotations

import logging
from dataclasses import replace

import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import ExportError
from pipeline.export.format import open_format
from pipeline.export.formats.onnx import TRIED_EVERY, Onnx
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.operator_export import Fragments
from pipeline.export.onnx.skeleton import skeleton
from pipeline.export.verify_outputs import difference
from pipeline.pruning.surgery.prune import prune
from pipeline.records import OnnxSupport
from tests.pipeline.pruning.networks import IMAGES, Concat, InvertedResidual, Residual, studied, traced

SUPPORT = OnnxSupport(13, 7)


def opened(network: fx.GraphModule, notes: list[str] | None = None) -> Onnx:
    made = open_format("onnx", network, IMAGES, support=SUPPORT, on_note=[].append if notes is None else notes.append)
    assert isinstance(made, Onnx)
    return made


def error(made: Onnx, data: bytes, network: nn.Module) -> float:
    return difference(network, IMAGES, made.answers(data, IMAGES.numpy()))


@pytest.mark.parametrize("kind", [Residual, InvertedResidual, Concat])
def test_a_probe_is_what_the_file_would_be_without_weights(kind: type[nn.Module]) -> None:
    model, space, ranking = studied(kind)
    notes: list[str] = []
    made = opened(model, notes)
    for levels in (tuple(0 for _ in space.groups), tuple(g.levels[-1] for g in space.groups)):
        network = prune(model, space, levels, ranking, IMAGES)
        data, weightless = made.file(network), made.skeleton(network)
        assert error(made, data, network) < 1e-4
        assert (weightless.data, weightless.size_bytes) == (skeleton(data), len(data))
    assert notes == []


class Loops(nn.Module):
    """Overwrites what another operation reads: in the traced graph that operation does not read the overwriting."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        torch.sigmoid_(x)
        return self.fc(x.mean((2, 3)))


def test_a_network_that_cannot_be_put_together_is_exported_in_full_and_said_so_once() -> None:
    network = fx.symbolic_trace(Loops().eval())
    notes: list[str] = []
    made = opened(network, notes)
    assert notes == [
        "each candidate is exported in full, which takes seconds: put together of parts, it has too few operators "
        "Sigmoid, and too many none"
    ]
    data = made.file(network)
    assert data == export(network, IMAGES, SUPPORT)
    assert error(made, data, network) < 1e-4
    weightless = made.skeleton(network)
    assert (weightless.data, weightless.size_bytes) == (skeleton(data), len(data))
    assert len(notes) == 1


class ByValue(nn.Module):
    """Scores of the pixels above zero, whose number depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x[x > 0].sum().reshape(1, 1))


def test_a_single_candidate_that_is_refused_is_exported_in_full(caplog: pytest.LogCaptureFixture) -> None:
    made = Onnx(IMAGES[:1], SUPPORT, Fragments(SUPPORT.opset))
    network = fx.symbolic_trace(ByValue().eval())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert made.skeleton(network).size_bytes == len(made.file(network))
    assert len(caplog.records) == 1
    assert "cannot be put together of exported parts: its shapes are not known" in caplog.text
    other = traced(Concat)
    assert b"relu" in made.file(other)  # others are put together, and their operators called as the graph's nodes


def corrupted(fragments: Fragments) -> None:
    """As if what was exported for one operation were taken for another of the same shapes."""
    key, relu = next((k, made) for k, made in fragments._known.items() if made and made.nodes[0].op_type == "Relu")
    wrong = onnx.NodeProto()
    wrong.CopyFrom(relu.nodes[0])
    wrong.op_type = "Sigmoid"
    fragments._known[key] = replace(relu, nodes=(wrong,))


@pytest.mark.parametrize("whole", [True, False])
def test_a_wrong_answer_sends_this_and_every_later_network_the_long_way(
    whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network = traced(Residual)
    fragments = Fragments(SUPPORT.opset)
    made = Onnx(IMAGES, SUPPORT, fragments)
    made._composed(network)
    corrupted(fragments)
    full = export(network, IMAGES, SUPPORT)
    for _ in range(2):
        if whole:
            assert made.file(network) == full
        else:
            assert made.skeleton(network).data == skeleton(full)
    assert caplog.text.count("from now on each is exported in full") == 1


def test_a_network_that_answers_with_no_numbers_is_its_own_fault(caplog: pytest.LogCaptureFixture) -> None:
    made, broken = opened(traced(Concat)), traced(Concat)
    broken.get_submodule("join").bias.data.fill_(float("nan"))
    for export_it in (made.file, made.skeleton):
        with pytest.raises(ExportError, match="answers differ from the network's by nan"):
            export_it(broken)
    assert b"join" in made.file(traced(Concat))  # still put together: its operators are called as the graph's nodes
    assert caplog.text == ""


def test_an_error_that_comes_later_is_found_within_a_few_probes(caplog: pytest.LogCaptureFixture) -> None:
    network = traced(Residual)
    fragments = Fragments(SUPPORT.opset)
    made = Onnx(IMAGES, SUPPORT, fragments)
    made.skeleton(network)
    corrupted(fragments)
    for _ in range(TRIED_EVERY):
        made.skeleton(network)
    assert "from now on each is exported in full" in caplog.text
