"""Images that are learnable in a few steps, and a network with everything in it that a checkpoint must not forget."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Blobs:
    """Images whose class is their colour; augmentation adds noise, which is drawn from the shuffling generator."""

    def __init__(self, count: int = 96) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % 5
        self.images = torch.randn(count, 3, 8, 8, generator=generator)
        self.images += 2 * torch.randn(5, 3, 1, 1, generator=generator)[self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self), generator=generator) if generator else torch.arange(len(self))
        for part in order[:limit].split(batch_size):
            images = self.images[part]
            if augment:
                images = images + 0.1 * torch.randn(images.shape, generator=generator)
            yield images, self.labels[part]


class Forgetful(nn.Module):
    """Convolutions with batch norm, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(self.drop(x.mean((2, 3))))


def forgetful(seed: int = 0) -> Forgetful:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Forgetful()
