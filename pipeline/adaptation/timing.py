"""Time of a decision: what the controller itself takes of a frame, networks left out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.controller import KEEP, Policy, look

DECISIONS = 300


def decision_us(settings: Mapping[str, Any], shape: tuple[int, ...], *, seed: int = 0) -> float:
    """Return the median time of a decision in microseconds, on this machine.

    Args:
        settings: controller.json.
        shape: of a frame: channels, height, width.
        seed: of frames and answers, which are random.
    """
    random, policy = np.random.default_rng(seed), Policy(settings)
    channels, height, width = shape
    frames = random.integers(0, 256, (8, height, width, channels), dtype=np.uint8)
    taken = []
    for number in range(DECISIONS):
        start = time.perf_counter()
        first = policy.first(look(frames[number % len(frames)]))
        if first != KEEP:
            margin = float(random.random())
            second = policy.second(first, number % 3, margin, 0.0)
            variants = [first] if second == first else [first, second]
            policy.done([number % 3] * len(variants), variants, [margin] * len(variants), 1.0)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken))
