"""Networks of signals, a structure each: cut, and their ONNX files answer as they do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.devices.compatibility import OLDEST_SUPPORT
from pipeline.export.format import open_format
from pipeline.export.verify_outputs import difference
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.networks import in_order, lively
from tests.variations import variations

EQUAL = 1e-5


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})  # type: ignore[arg-type]


class Around(nn.Module):
    """A stem of 16 channels before a body, average and linear behind it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.bn, self.body, self.fc = conv(3, 16, 7), nn.BatchNorm1d(16), body, nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.bn(self.stem(x)).relu()).mean(-1))


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = conv(16, 24, stride=2), nn.BatchNorm1d(24), conv(24, 16)
        self.shortcut = conv(16, 16, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return (self.b(self.bn(self.a(x)).relu()) + self.shortcut(x)).relu()


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down, self.up = conv(16, 16), conv(16, 8, 1), conv(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.up(self.down(functional.adaptive_avg_pool1d(x, 1)).relu()).sigmoid()


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(16, 16, padding=0, dilation=2), conv(16, 16, padding=0, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(functional.pad(self.a(functional.pad(x, (4, 0))).relu(), (8, 0)))


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(16, 8), conv(24, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([x, self.a(x).relu()], 1))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.b = nn.Parameter(torch.randn(16, 16, 3) * 0.1), conv(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.max_pool1d(functional.conv1d(x, self.weight, padding=1).relu(), 2))


BODIES = {
    "projected": Projected,
    "squeeze and excite": SqueezeExcite,
    "causal": Causal,
    "concatenated": Concatenated,
    "functional": Functional,
    "group norm": lambda: nn.Sequential(conv(16, 16), nn.GroupNorm(4, 16), nn.GELU(), conv(16, 16)),
    "same and reflected": lambda: nn.Sequential(conv(16, 16, padding="same"), conv(16, 16, padding_mode="reflect")),
    "separable": lambda: nn.Sequential(
        conv(16, 16, groups=16), nn.BatchNorm1d(16), nn.ReLU6(), conv(16, 16, 1), nn.AvgPool1d(2),
        nn.Upsample(scale_factor=2),
    ),
    "transposed": lambda: nn.Sequential(conv(16, 8, stride=2), nn.ReLU(), nn.ConvTranspose1d(8, 16, 4, 2, 1)),
}  # fmt: skip


@pytest.mark.parametrize("length", variations([64, 63], [63]))
@pytest.mark.parametrize("name", BODIES)
def test_half_of_every_group_can_be_cut_and_the_file_answers_as_the_network(name: str, length: int) -> None:
    signals = torch.randn(4, 3, length, generator=torch.Generator().manual_seed(1))
    network = trace(lively(Around(BODIES[name]())), signals, classes=5)
    space = search_space(network, signals, step=2)
    assert space.groups
    assert set(space.refused) == {"fc"}
    format = open_format("onnx", network, signals, support=OLDEST_SUPPORT)
    levels = tuple(max(level for level in group.levels if level <= 50) for group in space.groups)
    pruned = prune(network, space, levels, in_order(space), signals)
    assert difference(pruned, signals, format.answers(format.file(pruned), signals.numpy())) < EQUAL
