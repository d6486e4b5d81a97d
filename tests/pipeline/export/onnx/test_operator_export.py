from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.export.onnx.operator_export import Fragment, Fragments, operation_of
from pipeline.export.onnx.shape_inference import dry_run
from pipeline.export.onnx.values import Value, mapped


class Apply(nn.Module):
    """One function, or one layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def fragment(fragments: Fragments, function: Any, *shape: int) -> tuple[str, Fragment]:
    network = fx.symbolic_trace(Apply(function).eval())
    results = dry_run(network, torch.zeros(shape))
    node = [n for n in network.graph.nodes if n.op not in ("placeholder", "output")][-1]
    values = {n: mapped(result, lambda t, n=n: Value(n.name, t) if isinstance(t, Tensor) else t)
              for n, result in results.items()}  # fmt: skip
    return fragments.of(operation_of(node, network, values))


def kinds(made: Fragment) -> list[str]:
    return [node.op_type for node in made.nodes]


def test_one_export_serves_every_number_of_channels_where_the_operators_are_the_same() -> None:
    fragments = Fragments(17)
    name, made = fragment(fragments, torch.relu, 1, 8, 4, 4)
    assert fragment(fragments, torch.relu, 1, 24, 4, 4) == (name, made)
    assert kinds(made) == ["Relu"]


def test_other_images_are_exported_again() -> None:
    fragments = Fragments(17)
    name, _ = fragment(fragments, torch.relu, 1, 8, 4, 4)
    assert fragment(fragments, torch.relu, 1, 8, 5, 5)[0] != name


def test_operators_that_hold_the_channels_are_exported_for_each_number() -> None:
    fragments = Fragments(17)

    def chunk(x: Tensor) -> Any:
        return x.chunk(2, 1)

    found = [fragment(fragments, chunk, 1, channels, 4, 4) for channels in (8, 12)]
    assert [kinds(made) for _, made in found] == [["Slice", "Slice"], ["Slice", "Slice"]]
    assert not found[0][1].same_as(found[1][1])
    assert fragment(fragments, chunk, 1, 8, 4, 4)[1] is found[0][1]


def test_numbers_among_the_arguments_are_told_apart() -> None:
    fragments = Fragments(17)
    pads = [fragment(fragments, lambda x, n=n: functional.pad(x, (0, 0, 0, 0, n, n)), 1, 8, 4, 4) for n in (1, 2)]
    assert pads[0][0] != pads[1][0]
    assert not pads[0][1].same_as(pads[1][1])


def test_layers_settings_are_told_apart_though_their_repr_leaves_them_out() -> None:
    fragments = Fragments(17)
    whole, rounded = (
        fragment(fragments, nn.AvgPool2d(2, ceil_mode=mode), 1, 8, 5, 5)[1].nodes[0] for mode in (False, True)
    )
    assert whole.attribute != rounded.attribute


def test_layers_that_hold_weights_are_exported_each_time_with_their_own() -> None:
    fragments = Fragments(17)
    one, other = nn.PReLU(8), nn.PReLU(8)
    nn.init.constant_(other.weight, 0.5)
    found = [fragment(fragments, layer, 1, 8, 4, 4)[1] for layer in (one, other)]
    assert not found[0].same_as(found[1])
