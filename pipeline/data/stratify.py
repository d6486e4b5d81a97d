"""Stratified sampling, the same on every machine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw(labels: Tensor, images: int, *, seed: int, leave: int = 0) -> tuple[Tensor, Tensor]:
    """Split positions 0 … len(labels)-1 into a drawn part and the rest, both in shuffled order.

    Each class gives its share of ``images`` (largest remainders), at least one image, and keeps at least ``leave``;
    so the part can differ from ``images`` by a few where classes are tiny.

    >>> part, rest = draw(torch.tensor([0, 0, 0, 0, 1, 1]), 3, seed=0)
    >>> len(part), sorted(part.tolist() + rest.tolist())
    (3, [0, 1, 2, 3, 4, 5])
    """
    # RandomState's stream is frozen for good (NEP 19); newer generators may change theirs between releases.
    random = np.random.RandomState(seed % 2**32)
    classes = labels.numpy()
    drawn = np.zeros(len(classes), dtype=bool)
    for label, quota in _quotas(classes, images, leave).items():
        drawn[random.permutation(np.flatnonzero(classes == label))[:quota]] = True
    part, rest = (random.permutation(np.flatnonzero(mask)) for mask in (drawn, ~drawn))
    return torch.from_numpy(part), torch.from_numpy(rest)


def _quotas(classes: np.ndarray, images: int, leave: int) -> dict[int, int]:
    """Return how many images each class gives."""
    labels, counts = np.unique(classes, return_counts=True)
    shares = images * counts / counts.sum()
    quotas = np.floor(shares).astype(int)
    by_remainder = np.argsort(quotas - shares, kind="stable")
    quotas[by_remainder[: images - quotas.sum()]] += 1
    quotas = np.minimum(np.maximum(quotas, 1), counts - leave)
    return dict(zip(labels.tolist(), quotas.tolist(), strict=True))
