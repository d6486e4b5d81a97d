"""A seeded network of signals, and the file that the converter made of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, fx, nn

from pipeline.export.constants import distinct
from pipeline.pruning.trace import trace

CONVERTED = Path(__file__).with_name("signals.tflite")
SIGNALS = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(1))


class OfSignals(nn.Module):
    """Convolution, pooling, a residual block, a depthwise and a pointwise convolution, average, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.pool = nn.Conv1d(2, 8, 5, padding=2, bias=False), nn.BatchNorm1d(8), nn.MaxPool1d(2)
        self.block = nn.Sequential(
            nn.Conv1d(8, 12, 3, padding=1, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Conv1d(12, 8, 3, padding=1)
        )
        self.separable = nn.Sequential(
            nn.Conv1d(8, 8, 3, padding=1, stride=2, groups=8), nn.BatchNorm1d(8), nn.ReLU6(), nn.Conv1d(8, 16, 1)
        )
        self.average, self.linear = nn.AdaptiveAvgPool1d(1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.stem(x)).relu())
        x = (x + self.block(x)).relu()
        return self.linear(self.average(self.separable(x).relu()).flatten(1))


def of_signals(seed: int = 0) -> fx.GraphModule:
    """The traced network with random weights; with seed 0 those in ``signals.tflite``."""
    return distinct(trace(OfSignals(), SIGNALS), seed)
