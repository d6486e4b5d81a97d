"""Files of several inputs and outputs: names, order, rows, skeletons, and the same answers on the way as in torch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from device_agents.skeleton import expand, parse
from pipeline import structures
from pipeline.errors import ExportError
from pipeline.export.format import Format, open_format
from pipeline.export.onnx.exporter import export
from pipeline.export.signature import packed, signature_of
from pipeline.objective.task import Task, task_of
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport

SUPPORT = OnnxSupport(17, 8)


class Both(nn.Module):
    """Two inputs, and an answer of a dictionary, a tuple and a tensor under a name that a layer has as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.more = nn.Conv2d(16, 16, 3, padding=1)
        self.boxes = nn.Conv2d(16, 4, 1)
        self.side = nn.Linear(5, 8)
        self.scores = nn.Linear(24, 6)

    def forward(self, image: Tensor, facts: Tensor) -> dict[str, Any]:
        x = torch.relu(self.more(torch.relu(self.bn(self.conv(image)))))
        y = torch.relu(self.side(facts))
        return {"boxes": self.boxes(x), "rest": [self.scores(torch.cat([x.mean((2, 3)), y], 1)), y]}


def whole(name: str = "all") -> Task:
    from types import SimpleNamespace

    return task_of(SimpleNamespace(METRIC="m", loss=print, metric=print), name)


@pytest.fixture(scope="module")
def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.randn(4, 5, generator=generator)


@pytest.fixture(scope="module")
def base(example: tuple[Tensor, Tensor]) -> Any:
    torch.manual_seed(0)
    return trace(Both().eval(), example, task=whole())


@pytest.fixture(scope="module")
def format(base: Any, example: tuple[Tensor, Tensor]) -> Format:
    return open_format("onnx", base, example, support=SUPPORT)


def ranked(space: Any) -> dict[str, Tensor]:
    return {group.name: torch.arange(group.units) for group in space.groups}


def test_a_graph_takes_and_answers_what_its_model_does(base: Any, example: tuple[Tensor, Tensor]) -> None:
    signature = signature_of(base)
    assert signature.inputs == ("image", "facts")
    assert signature.outputs == ("boxes", "rest_0", "rest_1")
    assert signature.shapes == ((4, 8, 8), (6,), (8,))
    assert not signature.is_plain
    answer = structures.answer(base, example)
    assert [tuple(part.shape) for part in structures.tensors(answer).values()] == [(4, 4, 8, 8), (4, 6), (4, 8)]
    flat = torch.cat([part.flatten(1) for part in structures.tensors(answer).values()], 1).detach().numpy()
    again = signature.unpacked(flat)
    assert torch.equal(again["boxes"], answer["boxes"])
    assert torch.equal(again["rest"][1], answer["rest"][1])
    with pytest.raises(ValueError, match="269 values for an example, the network answers with 270"):
        signature.unpacked(flat[:, 1:])


def test_what_makes_any_output_stays_whole(base: Any, example: tuple[Tensor, Tensor]) -> None:
    space = search_space(base, example, step=4)
    assert {group.name for group in space.groups} == {"conv", "more"}
    assert {"boxes", "side", "scores"} <= space.refused.keys()


@pytest.mark.parametrize("level", [0, 50])
def test_a_pruned_network_s_file_answers_as_it_does(
    base: Any, format: Format, example: tuple[Tensor, Tensor], level: int
) -> None:
    space = search_space(base, example, step=4)
    network = prune(base, space, tuple(level for _ in space.groups), ranked(space), example)
    file = format.file(network)
    rows = format.answers(file, packed(example))
    found = signature_of(network).unpacked(rows)
    for path, expected in structures.tensors(structures.answer(network, example)).items():
        assert torch.allclose(structures.tensors(found)[path], expected, atol=1e-4)
    model = onnx.load_from_string(file)
    assert [one.name for one in model.graph.input] == ["image", "facts"]
    assert [one.name for one in model.graph.output] == ["boxes", "rest_0", "rest_1"]


def test_it_is_put_together_of_parts_as_it_is_exported_whole(
    base: Any, format: Any, example: tuple[Tensor, Tensor]
) -> None:
    assert format._fragments is not None
    composed = onnx.load_from_string(format.file(base))
    exported = onnx.load_from_string(export(base, example, SUPPORT))
    assert sorted(n.op_type for n in composed.graph.node) == sorted(n.op_type for n in exported.graph.node)
    assert [o.name for o in composed.graph.output] == [o.name for o in exported.graph.output]


def test_its_skeleton_runs_without_its_weights(base: Any, format: Format, example: tuple[Tensor, Tensor]) -> None:
    made = format.skeleton(base)
    assert len(made.data) < made.size_bytes
    whole_file = io.BytesIO()
    expand(parse(made.data), whole_file)
    session = onnxruntime.InferenceSession(whole_file.getvalue())
    outputs = session.run(None, {"image": example[0][:1].numpy(), "facts": example[1][:1].numpy()})
    assert [output.shape for output in outputs] == [(1, 4, 8, 8), (1, 6), (1, 8)]
    assert all(np.isfinite(output).all() for output in outputs)


def test_tflite_files_of_several_tensors_are_refused_with_what_to_do(base: Any, example: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ExportError, match="runtime: onnxruntime"):
        open_format("tflite", base, example, support=SUPPORT)


def test_a_network_that_only_torch_export_follows_takes_several_inputs_too(example: tuple[Tensor, Tensor]) -> None:
    class Looping(Both):
        def forward(self, image: Tensor, facts: Tensor) -> dict[str, Any]:
            parts = [part * (1.0 + i) for i, part in enumerate(facts.unbind(1))]
            if not isinstance(image, Tensor):  # a symbolic value is none
                raise TypeError("no tensor")
            return super().forward(image, torch.stack(parts, 1))

    torch.manual_seed(0)
    model = Looping().eval()
    graph = trace(model, example, task=whole())
    before, after = (structures.tensors(structures.answer(one, example)) for one in (model, graph))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[path], after[path], atol=1e-5) for path in before)


def test_a_task_picks_outputs_and_the_others_go(example: tuple[Tensor, Tensor]) -> None:
    from types import SimpleNamespace

    from pipeline.errors import ModelError

    def picking(select: Any) -> Task:
        return task_of(SimpleNamespace(METRIC="m", loss=print, metric=print, select=select), "picking")

    graph = trace(Both().eval(), example, task=picking(lambda outputs: outputs["rest"][0]))
    assert signature_of(graph).outputs == ("scores",)
    assert "boxes" not in dict(graph.named_modules())
    with pytest.raises(ModelError, match="select made output itself"):
        trace(Both().eval(), example, task=picking(lambda outputs: outputs["boxes"] * 2))
