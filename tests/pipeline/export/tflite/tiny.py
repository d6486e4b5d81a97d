"""A seeded network with most of what CNNs are made of, and the file that the converter made of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.export.constants import distinct
from pipeline.models.cifar_resnet import PaddedShortcut
from pipeline.pruning.trace import trace

CONVERTED = Path(__file__).with_name("tiny.tflite")
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Tiny(nn.Module):
    """Convolution, pooling, MobileNet's block, two residual blocks (one with a padded shortcut), average, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.inverted = nn.Sequential(
            nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8),
        )  # fmt: skip
        self.same = self._branch(8, 8, stride=1)
        self.wider, self.shortcut = self._branch(8, 16, stride=2), PaddedShortcut(2, 4)
        self.linear = nn.Linear(16, 5)

    @staticmethod
    def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.norm(self.stem(x))))
        x = x + self.inverted(x)
        x = functional.relu(x + self.same(x))
        x = functional.relu(self.shortcut(x) + self.wider(x))
        return self.linear(x.mean((2, 3)))


def tiny(seed: int = 0) -> fx.GraphModule:
    """The traced network with random weights; with seed 0 those in ``tiny.tflite``."""
    return distinct(trace(Tiny(), IMAGES), seed)
