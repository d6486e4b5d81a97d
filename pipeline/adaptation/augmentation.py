"""Corrupted training images: what a robust network learns from, while its teacher sees the images themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.adaptation.frames import corrupted, normalised
from pipeline.data.conditions import CLEAN, Condition
from pipeline.data.dataset import Split
from pipeline.data.pools import MemoryPool
from pipeline.structures import Inputs

CLEAN_SHARE = 0.25
"""Of a batch's parts, each of which is under one condition."""
PARTS = 8
SEVERITIES = (1, 2, 3, 4, 5)


class Corrupting:
    """Puts each part of a batch under a condition drawn at random; the same step draws the same."""

    def __init__(self, images: Split, kinds: Sequence[str], *, seed: int) -> None:
        """Take images whose normalisation the batches have."""
        self._images, self._kinds, self._seed = images, tuple(kinds), seed

    def __call__(self, inputs: Inputs, step: int) -> Inputs:
        """Return the images of a batch, N x C x H x W, corrupted; on the device that they were on."""
        assert isinstance(inputs, torch.Tensor)
        random = np.random.default_rng([self._seed, step])
        pixels = _pixels(inputs, self._images)
        parts = [
            corrupted(part, _drawn(self._kinds, random), random) for part in np.array_split(pixels, PARTS) if len(part)
        ]
        found = torch.from_numpy(normalised(np.concatenate(parts), self._images))
        return found.to(inputs.device)


def corrupted_split(images: Split, kinds: Sequence[str], *, seed: int) -> Split:
    """Return every image once, under a condition drawn at random."""
    random = np.random.default_rng(seed)
    pixels = images.pool.read(images.indices).numpy().transpose(0, 2, 3, 1)
    parts = np.array_split(pixels, max(1, len(pixels) // PARTS))
    found = np.concatenate([corrupted(part, _drawn(kinds, random), random) for part in parts])
    pool = MemoryPool(torch.from_numpy(np.ascontiguousarray(found.transpose(0, 3, 1, 2))), images.labels)
    return Split(pool, torch.arange(len(found)), images.mean, images.std)


def _drawn(kinds: Sequence[str], random: np.random.Generator) -> Condition:
    if random.random() < CLEAN_SHARE:
        return CLEAN
    return Condition(kinds[int(random.integers(len(kinds)))], int(random.choice(SEVERITIES)))


def _pixels(inputs: torch.Tensor, images: Split) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return normalised images as 8-bit pixels, N x H x W x C."""
    mean, std = (np.array(values, np.float32) for values in (images.mean, images.std))
    values = inputs.detach().cpu().numpy().transpose(0, 2, 3, 1) * std + mean
    return np.asarray(np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8))
