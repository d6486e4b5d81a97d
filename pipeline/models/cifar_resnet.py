"""The ResNets of the CIFAR-10 experiments: 6n+2 layers, parameter-free (option A) shortcuts.

K. He et al., arXiv:1512.03385, section 4.2. Layer names are those of akamaster/pytorch_resnet_cifar10, whose published
checkpoints load as they are.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

DEPTHS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """A stem and three stages of equally many blocks at 16, 32 and 64 channels."""

    def __init__(self, depth: int, *, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each class."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(self.pool(features).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        identity = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if identity else PaddedShortcut(stride, (outputs - inputs) // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of both branches, rectified."""
        inner = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(features))


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and channels of zeros on both sides to reach the new width."""

    def __init__(self, stride: int, padding: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        """Channels of zeros on each side."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features at the block's output size."""
        kept = features[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.padding, self.padding))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
