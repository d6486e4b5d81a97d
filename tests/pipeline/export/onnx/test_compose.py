from __future__ import annotations

from collections import Counter
from dataclasses import replace

import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.export.constants import distinct
from pipeline.export.format import INPUT, OUTPUT, FastPathUnsupportedError
from pipeline.export.onnx.compose import Composition, compose
from pipeline.export.onnx.exporter import answers, read
from pipeline.export.onnx.operator_export import Fragments
from pipeline.export.onnx.padded_shortcuts import with_convolutions
from pipeline.export.onnx.skeleton import skeleton
from pipeline.export.onnx.torch_exporter import exported, opset_of
from pipeline.export.verify_outputs import difference
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, SearchSpace
from tests.pipeline.export.tflite.signals import SIGNALS, OfSignals
from tests.pipeline.pruning import networks, toys
from tests.pipeline.pruning.networks import IMAGES, in_order, lively
from tests.variations import one_in, variations

OLD, NEW = OnnxSupport(13, 7), OnnxSupport(17, 8)
EQUAL = 1e-4

TOYS = (
    networks.Chain, networks.Residual, networks.InvertedResidual, networks.Concat, networks.Grouped, networks.Shuffle,
    toys.PaddedShortcut, toys.Split, toys.SqueezeExcite, toys.Dense, toys.GroupNormalised, toys.ConvNext,
    toys.MeanAndMaximum, toys.Attention, toys.Stacked, toys.Tied,
)  # fmt: skip


def composed(network: fx.GraphModule, support: OnnxSupport = NEW, fragments: Fragments | None = None) -> Composition:
    return compose(network, IMAGES, fragments or Fragments(opset_of(support)), support)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def wide_and_narrow(space: SearchSpace) -> list[tuple[int, ...]]:
    """Nothing cut, everything as far as it goes without and with its blocks, and a mixture."""
    narrowest = [max(level for level in g.levels if level < 100) for g in space.groups]
    return [
        tuple(0 for _ in space.groups),
        tuple(narrowest),
        tuple(g.levels[-1] for g in space.groups),
        tuple(
            level if i % 2 else g.levels[-1] for i, (g, level) in enumerate(zip(space.groups, narrowest, strict=True))
        ),
    ]


def require_parity(
    base: fx.GraphModule, space: SearchSpace, plans: list[tuple[int, ...]], images: Tensor, support: OnnxSupport
) -> None:
    fragments = Fragments(opset_of(support))
    for levels in plans:
        network = with_convolutions(prune(base, space, levels, in_order(space), images), images)
        made = compose(network, images, fragments, support)
        data = made.file()
        full = exported(network, (images[:1],), opset_of(support), [INPUT], [OUTPUT])
        assert operators(made.model) == operators(full), levels
        assert difference(network, images, answers(data, images.numpy())) < EQUAL, levels
        assert made.skeleton() == skeleton(data)
        assert made.size_bytes() == len(data)


@pytest.mark.parametrize("support", variations([OLD, NEW], [NEW]))
@pytest.mark.parametrize("kind", one_in(2, TOYS))
def test_what_is_cut_from_a_network_answers_and_is_built_as_its_full_export(
    kind: type[nn.Module], support: OnnxSupport
) -> None:
    base = networks.traced(kind)
    space = search_space(base, IMAGES, step=2)
    require_parity(base, space, wide_and_narrow(space), IMAGES, support)


@pytest.mark.parametrize("support", [OLD, NEW])
def test_a_network_of_signals_answers_and_is_built_as_its_full_export(support: OnnxSupport) -> None:
    base = trace(lively(OfSignals()), SIGNALS)
    space = search_space(base, SIGNALS, step=2)
    require_parity(base, space, wide_and_narrow(space), SIGNALS, support)


@pytest.mark.parametrize("name", variations(["resnet20", "mobilenet_v2", "efficientnet_b0"], ["resnet20"]))
def test_networks_of_the_zoo_answer_and_are_built_as_their_full_exports(name: str) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    base = trace(lively(load_model(name, classes=10, channels=3, weights=None)), images)
    space = search_space(base, images, step=8)
    require_parity(base, space, wide_and_narrow(space)[-1:], images, NEW)


@pytest.mark.parametrize("support", [OLD, NEW])
def test_a_composed_file_is_valid_and_within_the_limits(support: OnnxSupport) -> None:
    proto = read(composed(networks.traced(networks.Residual), support).file(), support)
    assert proto.ir_version <= support.ir
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset_of(support))]
    assert [i.name for i in proto.graph.input] == [INPUT]
    assert [o.name for o in proto.graph.output] == [OUTPUT]


def test_layers_have_the_attributes_of_the_full_export() -> None:
    network = networks.traced(networks.InvertedResidual)
    full = exported(network, (IMAGES[:1],), 17, [INPUT], [OUTPUT])

    def attributes(model: onnx.ModelProto) -> list[list[bytes]]:
        nodes = (node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
        return sorted(
            sorted(a.SerializeToString(deterministic=True) for a in node.attribute if a.name != "auto_pad")  # a default
            for node in nodes
        )

    assert attributes(composed(network).model) == attributes(full)


def test_weights_are_called_as_in_the_state_dict_and_operators_as_in_the_graph() -> None:
    model = composed(networks.traced(networks.Residual)).model
    assert {"stem.weight", "block2.conv3.bias", "fc.weight"} <= {t.name for t in model.graph.initializer}
    assert {"stem", "block2_conv3", "fc"} <= {node.name for node in model.graph.node}


def test_the_same_network_gives_the_same_bytes_whatever_was_composed_before() -> None:
    fragments = Fragments(17)
    model, space, ranking = networks.studied(networks.Residual)
    cut = prune(model, space, tuple(g.levels[-1] for g in space.groups), ranking, IMAGES)
    first = composed(model, fragments=fragments).file()
    composed(cut, fragments=fragments)
    assert composed(model, fragments=fragments).file() == composed(model).file() == first


def test_a_layout_of_weights_in_memory_does_not_show() -> None:
    network = networks.traced(networks.Residual)
    before = composed(network).file()
    assert composed(network.to(memory_format=torch.channels_last)).file() == before


def test_weights_are_not_computed_for_a_probe() -> None:
    """They would be of another size by then, so that writing them would fail."""
    network = networks.traced(networks.Residual)
    made = composed(network)
    weightless, size = made.skeleton(), made.size_bytes()
    network.get_submodule("block1.conv2").weight = nn.Parameter(torch.zeros(0))
    assert (made.skeleton(), made.size_bytes()) == (weightless, size)
    with pytest.raises(RuntimeError):
        made.file()


class Halves(nn.Module):
    """The second half of the channels, which is written as numbers."""

    def __init__(self, start: int, channels: int) -> None:
        super().__init__()
        self.conv, self.fc, self.start = nn.Conv2d(3, channels, 3), nn.Linear(channels - start, 5), start

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x)[:, self.start :].mean((2, 3)))


def test_other_numbers_among_the_arguments_are_another_operation() -> None:
    fragments = Fragments(17)
    for start, channels in ((8, 16), (4, 16), (4, 12)):
        network = distinct(trace(Halves(start, channels), IMAGES))
        made = composed(network, fragments=fragments)
        assert difference(network, IMAGES, answers(made.file(), IMAGES.numpy())) < EQUAL


class Ahead(nn.Module):
    """What follows from parameters alone, and numbers from sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * torch.exp(self.scale).view(1, -1, 1, 1)
        return self.fc(x.view(x.size(0), -1))


def test_what_does_not_depend_on_the_image_is_computed_ahead() -> None:
    network = trace(Ahead(), IMAGES)
    made = composed(network)
    assert "Exp" not in operators(made.model)
    assert "Shape" not in operators(made.model)
    assert difference(network, IMAGES, answers(made.file(), IMAGES.numpy())) < EQUAL


class Positive(nn.Module):
    """Its shapes depend on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0].sum().expand(x.shape[0], 5)


def test_shapes_that_depend_on_values_are_refused() -> None:
    with pytest.raises(FastPathUnsupportedError, match="shapes are not known without running it"):
        composed(fx.symbolic_trace(Positive()))


class Unchanged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_network_without_operators_is_refused() -> None:
    with pytest.raises(FastPathUnsupportedError, match="not each a tensor that it computes"):
        composed(fx.symbolic_trace(Unchanged()))


def test_an_operation_whose_result_is_of_another_shape_in_the_file_is_refused() -> None:
    """As if what was exported for one width did not fit another after all."""
    fragments = Fragments(17)
    network = networks.traced(networks.Concat)
    composed(network, fragments=fragments)
    known = fragments._known
    key, relu = next((key, made) for key, made in known.items() if made and made.nodes[0].op_type == "Relu")
    doubled = onnx.helper.make_node("Concat", ["in0", "in0"], relu.outputs, axis=2)
    known[key] = replace(relu, nodes=(doubled,))
    with pytest.raises(
        FastPathUnsupportedError, match=r"relu is of shape \(1, 8, 16, 8\) in the file, \(1, 8, 8, 8\) in the"
    ):
        composed(network, fragments=fragments)
