"""Frames whose answers are drawn, with a known best variant in each condition."""

from __future__ import annotations

import numpy as np

from pipeline.adaptation.frames import Frames
from pipeline.adaptation.streams import Ladder
from pipeline.data.conditions import CLEAN, Condition

CLASSES = 10


def drawn(accuracies: list[list[float]], *, images: int = 60, views: int = 2, seed: int = 0) -> Frames:
    """Return frames; ``accuracies``: of each variant, a row for each condition. Conditions differ in brightness, images
    in their thumbnails, and margins are larger where an answer is right."""
    random = np.random.default_rng(seed)
    shape = (len(accuracies), images, views, len(accuracies[0]))
    labels = random.integers(0, CLASSES, images)
    right = random.random(shape) < np.array(accuracies)[:, None, None, :]
    wrong = (labels[None, :, None, None] + random.integers(1, CLASSES, shape)) % CLASSES
    statistics = random.normal(0, 0.02, (*shape[:3], 4)) + np.array([0.5, 7.0, 5.0, 5.0])
    statistics[..., 0] += 0.2 * np.arange(shape[0])[:, None, None]
    thumbnails = random.uniform(0, 255, (1, images, 1, 4, 4)) + random.normal(0, 3, (*shape[:3], 4, 4))
    return Frames(
        conditions=(CLEAN, *(Condition(f"kind{i}", 1) for i in range(1, shape[0]))), labels=labels,
        statistics=statistics.astype(np.float32), thumbnails=thumbnails.astype(np.float32),
        answers=np.where(right, labels[None, :, None, None], wrong),
        margins=np.where(right, random.beta(5, 2, shape), random.beta(2, 3, shape)).astype(np.float32),
    )  # fmt: skip


def ladder(costs: list[float], deadline_ms: float = float("inf")) -> Ladder:
    """Return a ladder whose latencies are its costs in ms."""
    names = tuple(f"v{i}" for i in range(len(costs)))
    return Ladder(names=names, costs=np.array(costs), latencies_ms=np.array(costs), deadline_ms=deadline_ms)
