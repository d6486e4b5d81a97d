"""Networks of one structure are the same to a device; everything that may change its time makes another structure."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.export.fingerprint import structure
from pipeline.models import load_model
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace


def test_of_equal_blocks_it_does_not_matter_which_one_goes_or_is_cut() -> None:
    example = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    base = trace(load_model("resnet20", classes=10, channels=3, weights=None), example, classes=10)
    space = search_space(base, example, step=4)
    ranking = rank(base, space, "l1", dependency_graph(base, example).groups, [])

    def cut(**levels: int) -> str:
        wanted = tuple(levels.get(group.layers[0].replace(".", "_"), 0) for group in space.groups)
        assert sum(wanted) == sum(levels.values())
        return structure(prune(base, space, wanted, ranking, example))

    assert cut(layer1_1_conv1=100) == cut(layer1_2_conv1=100)
    assert cut(layer1_1_conv1=100) != cut(layer2_1_conv1=100)
    assert cut(layer1_1_conv1=50) != cut(layer1_2_conv1=50)  # the narrow block stands elsewhere
    assert cut(layer1_1_conv1=100, layer1_2_conv1=50) == cut(layer1_2_conv1=100, layer1_1_conv1=50)
    assert cut() == structure(base)


class Sized(nn.Module):
    """Settings that its repr does not show."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x.relu() if x.sum() > 0 else x
        return x


class Whole(fx.Tracer):
    """Calls ``Sized`` as a whole, as what cannot be traced is called."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Sized) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.GraphModule:
    return fx.GraphModule(model, Whole().trace(model))


def test_modules_of_unknown_settings_are_only_like_themselves() -> None:
    one, other = nn.Sequential(Sized(1), nn.Identity()), nn.Sequential(nn.Identity(), Sized(9))
    both = [structure(traced(model)) for model in (one, copy.deepcopy(one), other)]
    assert both[0] == both[1] != both[2]


class Spelled(nn.Module):
    """A function with a setting, a method, a parameter by itself."""

    def __init__(self, axis: int, share: float, width: int) -> None:
        super().__init__()
        self.axis, self.share = axis, share
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x * self.scale, self.axis).mul(self.share)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.Conv2d(4, 4, 3, stride=1), lambda: nn.Conv2d(4, 4, 3, stride=2)),
        (lambda: nn.Conv2d(4, 4, 1), lambda: nn.Conv2d(4, 4, 1, bias=False)),
        (lambda: nn.ReLU(), lambda: nn.Sigmoid()),
        (lambda: Spelled(1, 0.5, 4), lambda: Spelled(0, 0.5, 4)),
        (lambda: Spelled(1, 0.5, 4), lambda: Spelled(1, 0.25, 4)),
        (lambda: Spelled(1, 0.5, 4), lambda: Spelled(1, 0.5, 8)),
        (lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4).double()),
    ],
    ids=["stride", "bias", "operation", "argument", "constant", "shape", "precision"],
)
def test_what_may_cost_a_device_time_makes_another_structure(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module]
) -> None:
    first, again, second = (structure(traced(nn.Sequential(made()))) for made in (one, one, other))
    assert first == again != second
