"""ReLUs that change nothing go; those that might change something stay."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.models.cifar_resnet import CifarResNet
from pipeline.pruning.dependency.redundant_relu import drop_idle_relus
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import cut
from pipeline.pruning.trace import trace
from pipeline.pruning.tracing.operators import operator_name

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """A ReLU, something, and a ReLU."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.first, self.second = nn.ReLU(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


def relus_left(model: nn.Module) -> int:
    """Return how many are left, the answers being the same."""
    graph = fx.symbolic_trace(model.eval())
    drop_idle_relus(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    torch.testing.assert_close(graph(X), model(X), rtol=0, atol=0)
    return sum(operator_name(graph, n) == "relu" for n in graph.graph.nodes if n.op.startswith("call"))


@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2, padding=1),
        nn.UpsamplingNearest2d(scale_factor=2),
        torch.relu,
        lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)),
        lambda x: functional.pad(x, (1, 1), value=0.0),
        lambda x: torch.cat([x, functional.relu6(x)], 1),
        lambda x: x + x.relu(),
        lambda x: operator.iadd(x.clone(), x),
    ],
)
def test_a_relu_of_what_is_never_negative_goes(between: Callable[[Tensor], Tensor]) -> None:
    assert relus_left(Between(between)) == 1


@pytest.mark.parametrize(
    "between",
    [
        nn.BatchNorm2d(4, affine=True),
        nn.Upsample(scale_factor=2, mode="bicubic"),
        lambda x: x - 0.5,
        lambda x: x + -0.5,
        lambda x: torch.add(x, x, alpha=-2),
        lambda x: functional.pad(x, (1, 1), "constant", -1.0),
        lambda x: torch.cat([x, -x], 1),
        lambda x: -x,
    ],
)
def test_a_relu_of_what_may_be_negative_stays(between: Callable[[Tensor], Tensor]) -> None:
    if isinstance(between, nn.BatchNorm2d):
        nn.init.constant_(between.bias, -0.1)
    assert relus_left(Between(between)) == 2


def test_a_users_own_relu_may_be_anything() -> None:
    class ReLU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - 1

    model = Between(nn.Identity())
    model.first = ReLU()

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, ReLU) or super().is_leaf_module(m, module_qualified_name)

    graph = fx.GraphModule(model, Tracer().trace(model))
    drop_idle_relus(graph)
    assert "second" in {node.target for node in graph.graph.nodes}


def test_a_cifar_resnet_without_its_blocks_keeps_one_relu() -> None:
    """Its shortcuts are ``nn.Identity`` and slices with channels of zeros: neither makes anything negative."""
    base = trace(CifarResNet(20, classes=10, channels=3), torch.randn(2, 3, 32, 32), classes=10)
    example = torch.randn(2, 3, 32, 32)
    space = search_space(base, example, step=1)
    kept = {g.name: 0 if g.bypass else g.channels for g in space.groups}
    ranking = {g.name: torch.arange(g.units) for g in space.groups}
    pruned = cut(base, space, kept, ranking, example)
    assert sum(operator_name(pruned, n) == "relu" for n in pruned.graph.nodes if n.op.startswith("call")) == 1
