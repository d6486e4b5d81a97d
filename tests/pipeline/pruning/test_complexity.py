"""What a network weighs, against torch's own counter, against memory that is really held, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import ModelError
from pipeline.models import load_model
from pipeline.pruning.complexity import (
    Weight,
    layer_weights,
    measures_of,
    peak_activation_bytes,
    sparsity,
    weigh,
)
from pipeline.records import channel_sparsity
from tests.variations import one_in, variations

VALUE_BYTES = 4
TORCHVISION = ["mobilenet_v2", "resnext50_32x4d", "shufflenet_v2_x0_5", "efficientnet_b0", "densenet121", "swin_t"]


class Spelled(nn.Module):
    """Layers as functions of parameters, one with standardised weights, and a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(6, 4, 3, 3))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        x = functional.conv2d(x, weight, self.conv.bias, padding=1)
        x = functional.conv2d(x, self.kernel, groups=2, stride=2)
        flat = x.flatten(2)
        x = (flat @ flat.transpose(1, 2) @ flat).mean(2)
        return functional.linear(x, self.fc.weight, self.fc.bias)


class Branching(nn.Module):
    """Needs values, so that shapes alone are not enough; to be called as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def counted_by_torch(model: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example[:1])
    return int(counter.get_total_flops()) // 2


# ---------------------------------------------------------------- parameters and MACs


@pytest.mark.parametrize("name", one_in(3, TORCHVISION))
def test_macs_are_half_of_the_flops_that_torch_counts(name: str) -> None:
    model, example = load_model(name, classes=10, channels=3, weights=None), torch.randn(2, 3, 64, 64)
    assert weigh(model, example).macs == counted_by_torch(model, example) > 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), nn.Conv2d(8, 16, 3, groups=8, dilation=2),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1), nn.ConvTranspose2d(8, 8, 3, groups=2, output_padding=0),
        nn.Linear(9, 7), nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 4, 3)),
    ],
)  # fmt: skip
def test_every_kind_of_layer_is_counted_as_torch_counts_it(layer: nn.Module) -> None:
    layer, example = nn.Sequential(layer), torch.randn(3, 8, 9, 9)
    assert weigh(layer, example).macs == counted_by_torch(layer, example) > 0


def test_layers_are_counted_however_they_are_spelled_and_named_for_their_weights() -> None:
    model, example = Spelled(), torch.randn(2, 3, 9, 9)
    found = layer_weights(fx.symbolic_trace(model), example)
    assert found == {
        "conv": Weight(3 * 8 * 9 + 8, 81 * 3 * 8 * 9),
        "kernel": Weight(6 * 4 * 9, 16 * 6 * 4 * 9),
        "fc": Weight(6 * 5 + 5, 6 * 5),
    }
    product_of_activations = 2 * 6 * 6 * 16
    total = weigh(model, example)
    assert (
        total.macs == sum(w.macs for w in found.values()) + product_of_activations == counted_by_torch(model, example)
    )
    assert total.parameters == sum(w.parameters for w in found.values())


def test_a_layer_that_runs_twice_has_its_parameters_once_and_its_macs_twice() -> None:
    shared = nn.Conv2d(4, 4, 1, bias=False)
    found = layer_weights(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(1, 4, 5, 5))
    assert found == {"0": Weight(16, 2 * 25 * 16)}


def test_inside_inference_mode_the_figures_are_the_same() -> None:
    model, example = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.zeros(2, 3, 2, 2)
    with torch.inference_mode():
        assert weigh(model, example) == Weight(52, 48)


def test_what_is_inside_torchs_own_layers_counts_too() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    model = fx.symbolic_trace(Attending(attention))
    projections, products = 4 * 6 * 8 * 8, 2 * 6 * 6 * 8
    assert layer_weights(model, torch.zeros(1, 6, 8))["attention"].macs == projections + products


class Attending(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_nothing_is_computed_and_nothing_is_changed() -> None:
    model = load_model("resnet20", classes=10, channels=3, weights=None).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measures_of(model, torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with FlopCounterMode(display=False) as counter:  # it sees what runs on the meta device as well
        weigh(model, torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * weigh(model, torch.zeros(1, 3, 32, 32)).macs


def test_a_part_that_branches_on_values_is_computed_in_earnest() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_module("fc", (graph.call_module("branching", (x,)),)))
    layers = {"branching": Branching(), "fc": nn.Linear(4, 2)}
    assert weigh(fx.GraphModule(layers, graph), torch.ones(3, 4)) == Weight(10, 8)


def test_an_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Conv2d does not run on an image of shape \(3, 8, 8\)"):
        weigh(nn.Conv2d(4, 8, 3), torch.zeros(1, 3, 8, 8))


# ---------------------------------------------------------------- activations


def folded(model: nn.Module) -> fx.GraphModule:
    """The network with each batch norm merged, weights and all, into the convolution that it alone reads."""
    graph = fx.symbolic_trace(model.eval())
    for node in list(graph.graph.nodes):
        norm = graph.get_submodule(node.target) if node.op == "call_module" else None
        source = node.args[0] if isinstance(norm, nn.BatchNorm2d) else None
        conv = graph.get_submodule(source.target) if source is not None and source.op == "call_module" else None
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and len(source.users) == 1:
            graph.set_submodule(source.target, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def held(model: nn.Module, example: Tensor) -> int:
    """The most bytes that really lie in tensors while a graph runs that drops each one after its last reader."""

    class Watched(fx.Interpreter):
        most = 0

        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            alive = [*(v for node, v in self.env.items() if node.op != "get_attr"), result]
            if n.op not in ("get_attr", "output"):
                storages = {
                    t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
                    for t in pytree.tree_leaves(alive)
                    if isinstance(t, Tensor)
                }
                self.most = max(self.most, sum(storages.values()))
            return result

    watched = Watched(fx.symbolic_trace(model))
    with torch.no_grad():
        watched.run(example[:1].clone())
    return watched.most


@pytest.mark.parametrize("name", variations(
    ["resnet20", "mobilenet_v2", "efficientnet_b0", "densenet121", "shufflenet_v2_x0_5"], ["resnet20"]
))  # fmt: skip
def test_the_peak_is_what_is_really_held_with_batch_norm_folded(name: str) -> None:
    model, example = load_model(name, classes=10, channels=3, weights=None), torch.randn(2, 3, 64, 64)
    assert peak_activation_bytes(model, example) == held(folded(model), example)


@pytest.mark.parametrize(("inplace", "tensors"), [(True, 2), (False, 2)])
def test_a_chain_holds_two_tensors_at_a_time(inplace: bool, tensors: int) -> None:
    chain = nn.Sequential(*(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace)) * 3)
    assert peak_activation_bytes(chain.eval(), torch.zeros(2, 4, 8, 8)) == tensors * 4 * 64 * VALUE_BYTES


def test_in_place_work_and_views_take_no_memory_of_their_own() -> None:
    image = torch.zeros(1, 4, 8, 8)
    assert peak_activation_bytes(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), image) == 4 * 64 * VALUE_BYTES
    assert peak_activation_bytes(nn.Sequential(nn.ReLU(), nn.Flatten()), image) == 2 * 4 * 64 * VALUE_BYTES


def test_a_shortcut_stays_alive_until_it_is_added() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(4, 16, 1), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.narrow(self.wide(x))

    image_bytes = 4 * 64 * VALUE_BYTES
    assert peak_activation_bytes(Shortcut(), torch.zeros(1, 4, 8, 8)) == (1 + 4 + 1) * image_bytes


def test_a_batch_norm_that_cannot_be_folded_takes_memory() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + self.bn(x)

    assert peak_activation_bytes(Two().eval(), torch.zeros(1, 4, 8, 8)) == 3 * 4 * 64 * VALUE_BYTES


# ---------------------------------------------------------------- zeros and channels


def test_sparsity_is_the_share_of_zero_weights_and_passes_biases_over() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    nn.init.zeros_(model[1].bias)
    assert sparsity(model) == 0.0
    model[3].weight.data[0] = 0
    assert sparsity(model) == 4 / 16


def test_channel_sparsity_is_the_share_of_channels_that_are_gone() -> None:
    example = torch.zeros(1, 3, 8, 8)

    def net(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))

    base, pruned = measures_of(net(12), example), measures_of(net(4), example)
    assert (base.channels, pruned.channels) == (16, 8)
    assert channel_sparsity(base.channels, pruned.channels) == 0.5


def test_all_measures_agree_with_each_by_itself() -> None:
    model, example = Spelled(), torch.randn(1, 3, 9, 9)
    found = measures_of(model, example)
    assert Weight(found.parameters, found.macs) == weigh(model, example)
    assert found.peak_activation_bytes == peak_activation_bytes(model, example)
    assert (found.channels, found.sparsity) == (8 + 6 + 5, sparsity(model))
