"""Networks whose blocks lie within blocks, or several beside one shortcut; all answer 5 scores for 8 × 8 images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Unit(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1, relu: bool = True) -> None:
        layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)]
        super().__init__(*layers, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


def branch(channels: int = 8, inner: int = 8) -> nn.Sequential:
    """Two convolutions with channels of their own between."""
    return nn.Sequential(Unit(channels, inner), Unit(inner, channels, relu=False))


class Around(nn.Module):
    """A stem, what ``middle`` makes of its 8 channels, and a classifier."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle, self.fc = Unit(3, 8), middle, nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.middle(self.stem(x))).mean((2, 3)))


class Sum(nn.Module):
    """x and branches of it, added up in some way."""

    def __init__(self, add: Callable[[Sequence[Tensor]], Tensor], branches: int = 2) -> None:
        super().__init__()
        self.add, self.branches = add, nn.ModuleList(branch() for _ in range(branches))

    def forward(self, x: Tensor) -> Tensor:
        return self.add([x, *(one(x) for one in self.branches)])


class NestedResidual(nn.Module):
    """x + (convolution, an inner residual block, convolution)."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.before, self.after = Unit(8, 8), Unit(8, 8, relu=False)
        self.inner = branch() if depth == 1 else NestedResidual(depth - 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        return x + self.after(functional.relu(y + self.inner(y)))


class OnlyInner(nn.Module):
    """x + convolution of (x + branch of x): all channels of the outer block are those of the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = branch(), Unit(8, 8, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(functional.relu(x + self.inner(x)))


class Projected(nn.Module):
    """A branch that holds a block beside a shortcut of two layers, as GhostNet's with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = Unit(8, 8), branch(), Unit(8, 12, relu=False)
        self.shortcut = nn.Sequential(Unit(8, 8, groups=8), Unit(8, 12, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(functional.relu(y + self.inner(y))) + self.shortcut(x)


class ResidualInception(nn.Module):
    """x + a convolution of three branches that are concatenated, as Inception-ResNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Unit(8, 8, 1), nn.Sequential(Unit(8, 8, 1), Unit(8, 8))
        self.deep, self.join = nn.Sequential(Unit(8, 4, 1), Unit(4, 12), Unit(12, 12)), nn.Conv2d(28, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.join(torch.cat([self.left(x), self.right(x), self.deep(x)], 1))


class Ghost(nn.Module):
    """GhostNet's module: half of the channels from a convolution, half from a depthwise one of these."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True) -> None:
        super().__init__()
        self.primary = Unit(inputs, outputs // 2, 1, relu=relu)
        self.cheap = Unit(outputs // 2, outputs // 2, groups=outputs // 2, relu=relu)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


class RepGhost(nn.Module):
    """RepGhostNet's module as it is trained: a depthwise convolution beside a batch norm."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True) -> None:
        super().__init__()
        self.primary, self.cheap = (
            Unit(inputs, outputs, 1, relu=relu),
            Unit(outputs, outputs, groups=outputs, relu=False),
        )
        self.fusion_bn, self.relu = nn.BatchNorm2d(outputs), nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return self.relu(self.cheap(y) + self.fusion_bn(y))


class GhostBottleneck(nn.Module):
    """Two of such modules with squeeze and excitation between, beside the identity or a depthwise projection."""

    def __init__(self, kind: type[Ghost] | type[RepGhost], outputs: int = 8) -> None:
        super().__init__()
        self.first, self.last = kind(8, 16), kind(16, outputs, relu=False)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.shortcut = (
            nn.Sequential() if outputs == 8 else nn.Sequential(Unit(8, 8, groups=8), Unit(8, outputs, 1, relu=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        gate = functional.hardsigmoid(self.expand(functional.relu(self.reduce(y.mean((2, 3), keepdim=True)))))
        return self.last(y * gate) + self.shortcut(x)


class GlobalContext(nn.Module):
    """x + a vector for all of its pixels, as GCNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x.mean((2, 3), keepdim=True))


class RepVgg(nn.Module):
    """A convolution of 3 × 3, one of 1 × 1 and a batch norm of the same, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.one, self.norm = Unit(8, 8, relu=False), Unit(8, 8, 1, relu=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(x) + self.one(x) + self.norm(x)


class SplitAttention(nn.Module):
    """ResNeSt's: a grouped convolution's answers in parts, which are added up by weights that these decide."""

    def __init__(
        self, radix: int, cardinality: int = 1, inputs: int = 8, outputs: int = 16, *, split: bool = False
    ) -> None:
        super().__init__()
        self.radix, self.cardinality, self.split = radix, cardinality, split
        groups = radix * cardinality
        self.conv = Unit(inputs, outputs * radix, groups=groups)
        self.fc1, self.bn1 = nn.Conv2d(outputs, 16, 1, groups=cardinality), nn.BatchNorm2d(16)
        self.fc2 = nn.Conv2d(16, outputs * radix, 1, groups=cardinality)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        batch, channels, height, width = x.shape
        parts = (
            torch.split(x, channels // self.radix, dim=1)
            if self.split
            else x.reshape(batch, self.radix, channels // self.radix, height, width)
        )
        added = sum(parts[i] for i in range(self.radix)) if self.split else parts.sum(dim=1)
        gap = added.mean((2, 3), keepdim=True)
        weights = self.fc2(functional.relu(self.bn1(self.fc1(gap))))
        weights = weights.view(batch, self.cardinality, self.radix, -1).transpose(1, 2).softmax(1).reshape(batch, -1)
        if self.split:
            each = torch.split(weights.view(batch, -1, 1, 1), channels // self.radix, dim=1)
            return sum(parts[i] * each[i] for i in range(self.radix))
        return (parts * weights.reshape(batch, self.radix, channels // self.radix, 1, 1)).sum(dim=1)


class ResNest(nn.Module):
    """A bottleneck with split attention, beside the identity."""

    def __init__(self, radix: int, cardinality: int = 1, *, split: bool = False) -> None:
        super().__init__()
        self.first, self.last = Unit(8, 16, 1), Unit(16, 8, 1, relu=False)
        self.attention = SplitAttention(radix, cardinality, 16, 16, split=split)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(functional.relu(self.attention(self.first(x))))
