"""Every layer stands in a group, or in the list of what stays, with a reason that is the cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ModelError
from pipeline.pruning.search_space import search_space
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace
from tests.pipeline.pruning.networks import IMAGES
from tests.pipeline.pruning.oracle import require_all_listed
from tests.pipeline.pruning.toys import TOYS
from tests.variations import one_in


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Masked(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)
        self.register_buffer("mask", torch.ones_like(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.mask, self.bias)


class LowRank(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(outputs, 2)), nn.Parameter(torch.randn(2, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, (self.u @ self.v)[..., None, None])


class Learned(nn.Module):
    """Its weights are made of the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shape = (outputs, inputs, 1, 1)
        self.maker = nn.Linear(inputs, outputs * inputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.maker(x.mean((0, 2, 3))).view(self.shape))


class Product(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (x.movedim(1, -1) @ self.weight).movedim(-1, 1)


class Around(nn.Module):
    """A convolution, a layer that cannot be cut, and a convolution that can."""

    def __init__(self, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first, self.layer, self.last = nn.Conv2d(3, 16, 3, padding=1), layer(16, 16), nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.last(torch.relu(self.layer(torch.relu(self.first(x)))))).mean((2, 3)))


class UnequalKernels(nn.Module):
    """Depthwise kernels over an unequal split: the smallest piece is no wider than the device's step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 56, 1)
        self.kernels = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1, groups=n) for n in (32, 16, 8))
        self.last, self.fc = nn.Conv2d(56, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.first(x), [32, 16, 8], 1)
        x = torch.cat([kernel(part) for kernel, part in zip(self.kernels, parts, strict=True)], 1)
        return self.fc(self.last(x).mean((2, 3)))


def space_of(network: nn.Module, step: int = 8) -> SearchSpace:
    torch.manual_seed(0)
    return search_space(trace(network, IMAGES), IMAGES, step=step)


@pytest.mark.parametrize("toy", TOYS)
def test_each_layer_of_a_toy_stands_somewhere(toy: type[nn.Module]) -> None:
    require_all_listed(space_of(toy(), step=4))


@pytest.mark.parametrize(
    ("layer", "named", "why"),
    one_in(
        4,
        [
            (lambda i, o: Standardised(i, o, 3, padding=1), "layer", "weights are computed"),
            (Masked, "layer", "weights are computed"),
            (LowRank, "layer", "weights are computed"),
            (Learned, "layer.maker", ""),
            (Product, "layer", "matmul"),
        ],
    ),
)
def test_a_layer_of_computed_weights_is_listed_with_its_macs(
    layer: Callable[[int, int], nn.Module], named: str, why: str
) -> None:
    space = space_of(Around(layer))
    require_all_listed(space)
    assert why in space.refused[named]
    assert space.refused_macs[named] == space.layer_macs[named] > 0
    assert "last" in {layer for group in space.groups for layer in group.layers}


def test_a_group_that_stays_is_listed_though_other_channels_of_its_layer_can_go() -> None:
    space = space_of(UnequalKernels())
    require_all_listed(space)
    assert "no more than this device computes at once" in space.refused["kernels.2"]
    assert "no more than this device computes at once" in space.refused["first#3"]
    assert space.refused_macs["first#3"] == round(space.layer_macs["first"] * 8 / 56)


def test_a_reason_names_the_operator_the_layer_and_the_line() -> None:
    class Folded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.unfold(x, 1).view(-1, 16, 8, 8)

    why = space_of(Around(lambda *_: Folded())).refused["first"]
    assert why.startswith("unfold is not supported")
    assert "layer" in why
    assert "test_listing.py:" in why


def test_channels_normalised_in_one_group_can_go_beside_a_layer_scale() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 32, 3), nn.GroupNorm(1, 32), nn.Conv2d(32, 32, 1)
            self.scale, self.fc = nn.Parameter(torch.ones(1, 32, 1, 1)), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.fc((x + self.scale * self.b(self.norm(x))).mean((2, 3)))

    assert [(group.name, group.levels) for group in space_of(Scaled()).groups] == [
        ("a", (0, 25, 50, 75)),
        ("b", (0, 100)),
    ]


def _raise(_: Tensor) -> Tensor:
    raise TypeError("give a picture")


@pytest.mark.parametrize(
    ("said", "unsaid", "forward"),
    [
        ("branches on values", "", lambda x: x if x.sum() > 0 else -x),
        ("give a picture", "branches on values", _raise),
    ],
)
def test_branching_on_values_is_said_only_where_it_is_so(
    said: str, unsaid: str, forward: Callable[[Tensor], Tensor]
) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x).mean((2, 3))

    with pytest.raises(ModelError, match=said) as caught:
        trace(Net(), IMAGES)
    assert "test_listing.py:" in str(caught.value)
    assert not unsaid or unsaid not in str(caught.value)
