"""Random plans that keep the target reachable."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pipeline.records import LEVELS
from pipeline.search.planner import Indices, Limits, Planner


def draw(planner: Planner, plans: int, rng: np.random.Generator, limits: Limits | None = None) -> Indices:
    """Return random plans within the masks, (plans, groups)."""
    levels = planner.empty_plans(plans)
    for step in range(planner.groups):
        noise = rng.random((plans, len(LEVELS)))
        levels[:, step] = np.where(planner.mask(levels, step, limits), noise, -1).argmax(1)
    return levels


def unasked(planner: Planner, asked: Collection[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the first plan that was not asked for, in order; the first of all where none is left."""
    return next((plan for plan in planner.every_plan() if plan not in asked), next(planner.every_plan()))
