"""torch-pruning's scores for a layer's channels, as an independent account of what a criterion says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import CriterionConfig
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.evidence import Batches, Evidence
from pipeline.pruning.importance.ranking import combined
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.networks import IMAGES


class Plain(nn.Module):
    """A convolution without bias, perhaps batch norm, a ReLU, and a linear layer that reads one or four pixels."""

    def __init__(self, *, norm: bool = False, pixels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d((pixels, 1))
        self.fc = nn.Linear(6 * pixels, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(torch.relu(self.bn(self.conv(x)))).flatten(1))


def theirs(model: nn.Module, root: str, importance: Callable[[tp.Group], Tensor]) -> Tensor:
    """torch-pruning's score of each output channel of ``root``."""
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGES)
    layer = model.get_submodule(root)
    channels = list(range(layer.weight.shape[0]))
    group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, idxs=channels)
    return importance(group).double()


def ours(
    model: nn.Module, root: str, criterion: ModuleType, batches: Batches = (), options: CriterionConfig | None = None
) -> Tensor:
    """Our score of each unit of the group that ``root`` is the first to make."""
    network = trace(model, IMAGES)
    group = dependency_graph(network, IMAGES).groups[root]
    return combined(criterion.scores(group, Evidence(network, [group], batches)), options or CriterionConfig())


def backward(model: nn.Module, labels: Tensor) -> None:
    """Leave the gradients of the mean loss in ``.grad``, where torch-pruning looks for them."""
    functional.cross_entropy(model.eval()(IMAGES), labels).backward()
