"""A failed export names the layer, the operator and the line, and prints nothing; wrong answers name the layer, too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ExportError
from pipeline.export.format import open_format
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.fault_localization import differing, using
from pipeline.export.onnx.torch_exporter import exported
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport
from tests.variations import variations

OLD, NEWER = OnnxSupport(13, 8), OnnxSupport(17, 8)
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A convolution, and any function of it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(8, 8, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


class Opaque(nn.Module):
    """Asks for a value, so that it is called as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0(x) if x.sum() < 1e9 else x


def double(x: Tensor) -> Tensor:
    return torch.special.bessel_j1(x)


def built(middle: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    stem, end = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(stem, Block(functional.relu), Block(middle), pool, end).eval()


UNWRITABLE: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "fft": (lambda x: torch.fft.rfft2(x).abs(), "layer '2' (Block", "operator fft_rfft2"),
    "a function of the user's": (double, "layer '2' (Block", "operator special_bessel_j1"),
    "of linear algebra": (lambda x: torch.linalg.svdvals(x)[..., None], "layer '2' (Block", "operator linalg_svdvals"),
    "a layer of the user's, called as a whole": (Opaque(), "layer '2.function' (Opaque", "operator i0"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("whole", variations([True, False], [True]))
def test_what_cannot_be_written_is_named_in_one_sentence(
    name: str, whole: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    function, layer, operator = UNWRITABLE[name]
    graph = trace(built(function), IMAGES)
    write = export if whole else lambda *told: open_format("onnx", *told[:2], support=told[2])
    with pytest.raises(ExportError) as caught:
        write(graph, IMAGES, OLD)
    said = str(caught.value)
    assert said.startswith(f"the network cannot be written as ONNX opset 13: {layer}")
    assert f"uses {operator}, which torch cannot write as ONNX: express it by operators that ONNX has" in said
    assert re.search(rf"{re.escape(Path(__file__).name)}:\d+\) uses", said)
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")


def test_what_a_newer_runtime_could_load_is_told_with_the_opset() -> None:
    graph = trace(built(lambda x: functional.scaled_dot_product_attention(x, x, x)), IMAGES)
    with pytest.raises(ExportError, match=r"which ONNX has from opset 14 on, and the device's runtime loads up to"):
        export(graph, IMAGES, OLD)
    export(graph, IMAGES, NEWER)


def test_an_export_that_fails_says_nothing_of_torchs_graph_and_asks_for_no_support(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.fold(functional.unfold(x, 2), (8, 8), 2).lgamma()

    with pytest.raises(ExportError) as caught:
        exported(Odd(), (IMAGES[:1],), 13, ["in"], None)
    assert not re.search(r"request support|GitHub|Caused by|graph\(", str(caught.value))
    assert capfd.readouterr() == ("", "")


def test_the_layer_that_uses_an_operator_of_the_converters_is_found_by_its_name() -> None:
    graph = trace(built(lambda x: torch.fft.fft2(x).real), IMAGES)
    assert re.fullmatch(r"layer '2' \(Block, .*test_fault_localization.py:\d+\)", using(graph, IMAGES[:1], "fft") or "")
    assert using(graph, IMAGES[:1], "complex64") == using(graph, IMAGES[:1], "fft")
    assert using(graph, IMAGES[:1], "frexp") is None


@pytest.mark.parametrize(
    ("middle", "said"),
    [
        (nn.BatchNorm2d(8, track_running_stats=False),
         r"layer '2.function' \(BatchNorm2d, .*\) answers by all images of its batch, and a device is given one at a "
         r"time: it keeps no running statistics; make and train it with track_running_stats=True"),
        (lambda x: x - x.mean(0, keepdim=True), r"layer '2' \(Block, .*\) answers by all images .*: let it answer"),
        (lambda x: torch.log(x - 1e9), r"its values are not finite from layer '2' \(Block, .*\) on"),
    ],
)  # fmt: skip
def test_where_answers_differ_the_first_layer_is_named(middle: Callable[[Tensor], Tensor], said: str) -> None:
    graph = trace(built(middle), IMAGES)
    with pytest.raises(ExportError, match=rf"answers differ from the network's by .*, allowed is 1e-04: {said}"):
        export(graph, IMAGES, OLD)


class Growing(nn.Module):
    """Another function at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += int(not x.is_meta and bool(x.sum() < 1e9))
        return x * float(self.calls)


def test_a_layer_whose_values_are_others_in_the_file_is_named() -> None:
    graph = trace(built(lambda x: x), IMAGES)
    graph.add_module("odd", Growing())
    with graph.graph.inserting_before(graph.graph.output_node()):
        odd = graph.graph.call_module("odd", (graph.graph.output_node().args[0],))
    graph.graph.output_node().args = (odd,)
    graph.recompile()
    assert differing(graph, IMAGES[:1], 13) in (
        "layer 'odd' (Growing) gives other values in the file",
        "layer 'odd' (Growing) answers by all images of its batch, and a device is given one at a time: "
        "let it answer each image by itself",
    )


def test_of_a_network_that_is_written_rightly_no_layer_is_named() -> None:
    assert differing(trace(built(torch.sigmoid), IMAGES), IMAGES, 13) is None
