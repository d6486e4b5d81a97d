"""Adaptive pooling of any map to any size: as a module, as a function, within a layer that is not looked into."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.export.format import open_format
from pipeline.export.onnx.adaptive_pooling import AdaptivePooling, windows
from pipeline.export.onnx.exporter import answers, export, read
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport
from tests.pipeline.pruning.oracle import at_random, plan
from tests.variations import one_in

NANO = OnnxSupport(13, 8)
IMAGES = torch.randn(3, 3, 9, 12, generator=torch.Generator().manual_seed(0))

Pool = Callable[[Tensor], Tensor]


class Opaque(nn.Module):
    """Asks for a value, so that it is called as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x, 5) if x.sum() < 1e9 else x


POOLS: dict[str, Pool] = {
    "average": nn.AdaptiveAvgPool2d(5),
    "average, as VGG's": nn.AdaptiveAvgPool2d((7, 7)),
    "average, not square": nn.AdaptiveAvgPool2d((4, 5)),
    "average, one size open": nn.AdaptiveAvgPool2d((None, 5)),
    "average, one size divides and the other is open": nn.AdaptiveAvgPool2d((3, None)),
    "average to more": nn.AdaptiveAvgPool2d((20, 3)),
    "average to the same": lambda x: functional.adaptive_avg_pool2d(x, (9, None)),
    "average by a function": lambda x: functional.adaptive_avg_pool2d(x, output_size=[5, 2]),
    "average of a large map": nn.Sequential(nn.Upsample(scale_factor=4), nn.AdaptiveAvgPool2d((7, 9))),
    "average of a row": lambda x: functional.adaptive_avg_pool1d(x.flatten(2), 7),
    "average of a volume": lambda x: functional.adaptive_avg_pool3d(x.unflatten(1, (-1, 4)), (3, 2, 5)),
    "average of a large volume": lambda x: functional.adaptive_avg_pool3d(
        functional.interpolate(x.unflatten(1, (-1, 4)), scale_factor=2), (5, None, 7)
    ),
    "maximum": nn.AdaptiveMaxPool2d(5),
    "maximum, not square": lambda x: functional.adaptive_max_pool2d(x, (3, 7)),
    "maximum, one size open": nn.AdaptiveMaxPool2d((4, None)),
    "maximum to more": nn.AdaptiveMaxPool2d(13),
    "maximum of a row": nn.Sequential(nn.Flatten(2), nn.AdaptiveMaxPool1d(7)),
    "maximum of a volume": lambda x: functional.adaptive_max_pool3d(x.unflatten(1, (-1, 4)), (3, 3, 5)),
    "maximum with its places": lambda x: functional.adaptive_max_pool2d(x, 5, return_indices=True)[0],
    "a pyramid": lambda x: torch.cat([functional.adaptive_avg_pool2d(x, k).flatten(2) for k in (1, 2, 3, 6)], 2),
    "within a layer that is called as a whole": Opaque(),
}


class Pooled(nn.Module):
    """A convolution, a pooling, a classifier."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 8, 3, padding=1), pool, nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(functional.relu(self.conv(x))).flatten(1))


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = Pooled(POOLS[name]).eval()
    model(IMAGES)
    return model


@pytest.mark.parametrize("name", POOLS)
def test_the_file_answers_as_the_network_within_what_an_old_board_loads(name: str) -> None:
    model = built(name)
    data = export(model, IMAGES, NANO)
    read(data, NANO)
    with torch.inference_mode():
        np.testing.assert_allclose(answers(data, IMAGES.numpy()), model(IMAGES).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", one_in(6, [name for name in POOLS if "places" not in name and "whole" not in name]))
def test_candidates_are_put_together_of_parts_as_others_are(name: str) -> None:
    graph = trace(built(name), IMAGES)
    notes: list[str] = []
    made = open_format("onnx", graph, IMAGES, support=NANO, on_note=notes.append)
    assert notes == []
    assert np.abs(made.answers(made.file(graph), IMAGES.numpy()) - graph(IMAGES).detach().numpy()).max() < 1e-4
    made.skeleton(graph)


@pytest.mark.parametrize("name", ["average", "average of a large map", "maximum", "a pyramid"])
def test_one_export_of_a_pooling_serves_every_number_of_channels(name: str) -> None:
    graph = trace(built(name), IMAGES)
    space = search_space(graph, IMAGES, step=2)
    made = open_format("onnx", graph, IMAGES, support=NANO)
    before = dict(made._fragments._known)  # type: ignore[attr-defined]
    for level in ("25", "50", "75"):
        made.file(prune(graph, space, plan(space, level), at_random(space), IMAGES))
    assert made._fragments is not None  # type: ignore[attr-defined]
    pooling = [key for key in made._fragments._known if "ool" in key and key not in before]  # type: ignore[attr-defined]
    assert pooling == []


@pytest.mark.parametrize("name", one_in(6, [name for name in POOLS if "whole" not in name]))
def test_the_converters_program_answers_as_the_network(name: str) -> None:
    model = built(name)
    with AdaptivePooling():
        program = torch.export.export(model, (IMAGES[:1],))
    torch.testing.assert_close(program.module()(IMAGES[:1]), model(IMAGES[:1]), rtol=1e-4, atol=1e-5)
    assert not [n for n in program.graph.nodes if "adaptive_max" in str(n.target) and n.users and "place" not in name]


def test_what_divides_is_written_as_it_always_was() -> None:
    def operators(pool: Pool) -> list[str]:
        model = Pooled(pool).eval()
        model(IMAGES)
        return [node.op_type for node in onnx.load_from_string(export(model, IMAGES, NANO)).graph.node]

    assert operators(nn.AdaptiveAvgPool2d(1)) == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert operators(nn.AdaptiveAvgPool2d((3, 4))) == ["Conv", "Relu", "AveragePool", "Flatten", "Gemm"]
    assert operators(nn.AdaptiveMaxPool2d((3, 4))) == ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"]


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 3), (3, 8), (7, 7), (14, 6), (5, 1), (1, 4)])
def test_the_windows_are_torchs(inputs: int, outputs: int) -> None:
    values = torch.randn(1, 1, inputs)
    pooled = [values[..., start:end].mean() for start, end in windows(inputs, outputs)]
    torch.testing.assert_close(functional.adaptive_avg_pool1d(values, outputs).flatten(), torch.stack(pooled))
