"""Toy networks, one for each structure that a cut may stumble over; all of them answer 5 scores for 8 × 8 images."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import Ranking
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Chain(nn.Module):
    """Two convolutions with batch norm, then flatten and a hidden linear layer: no shortcut anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16)
        self.hidden, self.fc = nn.Linear(16 * 16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = torch.sigmoid(self.bn2(self.conv2(x)))  # not zero where its input is zero
        return self.fc(functional.relu(self.hidden(x.flatten(1))))


class Bottleneck(nn.Module):
    """As torchvision's: three convolutions beside the identity, or beside a projection."""

    def __init__(self, inputs: int, inner: int, outputs: int, *, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Residual(nn.Module):
    """A stem, a projecting and two identity bottlenecks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = Bottleneck(8, 8, 16, project=True)
        self.block2 = Bottleneck(16, 8, 16, project=False)
        self.block3 = Bottleneck(16, 8, 16, project=False)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(torch.relu(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    """MobileNetV2's: expand, depthwise, project; two in a row, added without an activation between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = self._branch(), self._branch()
        self.fc = nn.Linear(8, 5)

    @staticmethod
    def _branch() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 8, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        x = x + self.second(x)
        return self.fc(x.mean((2, 3)))


class Concat(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 16, 1)
        self.join, self.fc = nn.Conv2d(24, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.fc(torch.relu(self.join(x)).mean((2, 3)))


class Grouped(nn.Module):
    """A convolution of four groups between two ordinary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.grouped = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.conv2, self.fc = nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.conv1(x))))
        return self.fc(torch.relu(self.conv2(x)).mean((2, 3)))


class Shuffle(nn.Module):
    """ShuffleNet's channel shuffle: view, transpose, view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.conv1(x)).chunk(2, 1)
        x = torch.cat([a, b], 1).view(-1, 2, 8, 8, 8).transpose(1, 2).reshape(-1, 16, 8, 8)
        return self.fc(torch.relu(self.conv3(torch.relu(self.conv2(x)))).mean((2, 3)))


class Reversed(nn.Module):
    """Channels are flipped on the way: every width fits after a cut, but the wrong channels would meet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv2(torch.relu(self.conv1(x)).flip(1))).mean((2, 3)))


class Tied(nn.Module):
    """Two convolutions that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.second(torch.relu(self.first(torch.relu(self.stem(x)))))).mean((2, 3)))


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norm's scales, shifts and statistics values of their own, so that a wrong wiring shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def traced(kind: type[nn.Module]) -> fx.GraphModule:
    return copy.deepcopy(_traced(kind))


@functools.cache
def _traced(kind: type[nn.Module]) -> fx.GraphModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind()
    return trace(lively(model), IMAGES)


def studied(kind: type[nn.Module], step: int = 4) -> tuple[fx.GraphModule, SearchSpace, Ranking]:
    """The traced network, what may be cut in it, and a ranking by index."""
    space = _space(kind, step)
    return traced(kind), space, in_order(space)


@functools.cache
def _space(kind: type[nn.Module], step: int) -> SearchSpace:
    return search_space(_traced(kind), IMAGES, step=step)


def in_order(space: SearchSpace) -> Ranking:
    return {g.name: torch.arange(g.units) for g in space.groups}


def level_of(space: SearchSpace, **levels: int) -> tuple[int, ...]:
    """A plan that cuts the named groups (dots as double underscores)."""
    wanted = {name.replace("__", "."): level for name, level in levels.items()}
    assert not wanted.keys() - {g.name for g in space.groups}, [g.name for g in space.groups]
    return tuple(wanted.get(g.name, 0) for g in space.groups)
