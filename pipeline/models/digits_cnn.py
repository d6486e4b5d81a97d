"""The embedded default: a small residual CNN for grey images of about 8x8 pixels.

Sized for showing the whole pipeline in seconds: on the real 8x8 digits it passes 98 % within ten epochs, 15 to 20 s on
two cores, and takes 0.5 ms on one desktop core, nearly all of it arithmetic. Widths are multiples of 16, so that a
narrower layer is also a faster one; four of the five blocks have an identity shortcut and may be removed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (32, 32, 64, 64, 64, 64)
"""Channels of the stem, then of each block."""


class DigitsCNN(nn.Module):
    """Stem, residual blocks at one resolution, average, linear."""

    def __init__(self, *, classes: int, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        # Twice the size gives 3x3 kernels something to see: 8x8 alone would be mostly border.
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.stem = nn.Sequential(_convolution(channels, widths[0], 3), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in pairwise(widths)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each class."""
        features: Tensor = self.blocks(self.stem(self.enlarge(images)))
        logits: Tensor = self.linear(self.pool(features).flatten(1))
        return logits


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is the identity where the width stays."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of both branches, rectified."""
        inner = self.relu1(self.bn1(self.conv1(features)))
        summed: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(features))
        return summed


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
