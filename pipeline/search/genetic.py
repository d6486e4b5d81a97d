"""Genetic operators: mutation and crossover of plans, with truncation selection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.search.planner import REMOVE, Array, Indices, Limits, Planner, repair_to_feasible

_GENERATIONS, _PARENTS, _CHILDREN = 6, 50, 200
"""And how many plans each generation has."""


def evolve(
    planner: Planner,
    plans: Indices,
    worth: Callable[[Indices], Array],
    rng: np.random.Generator,
    limits: Limits | None = None,
) -> Indices:
    """Return the last generation evolved from plans, repaired to be feasible, with its parents, (plans, groups).

    Args:
        worth: fitness of plans, (plans,).
        limits: the targets, one for all plans; None: the problem's.
    """
    for _ in range(_GENERATIONS):
        plans = np.unique(plans, axis=0)
        parents = plans[worth(plans).argsort()[::-1][:_PARENTS]]
        plans = np.concatenate([parents, repair_to_feasible(planner, _children(parents, rng), limits)])
    return plans


def mutants(plans: Indices, rng: np.random.Generator) -> Indices:
    """Return plans with one or two groups' levels drawn anew."""
    changed, rows = plans.copy(), np.arange(len(plans))
    changed[rows, rng.integers(0, plans.shape[1], len(rows))] = rng.integers(0, REMOVE + 1, len(rows))
    second = rows[rng.random(len(rows)) < 0.5]
    changed[second, rng.integers(0, plans.shape[1], len(second))] = rng.integers(0, REMOVE + 1, len(second))
    return changed


def _children(parents: Indices, rng: np.random.Generator) -> Indices:
    """Return children of two parents each, mutated."""
    pairs = rng.integers(0, len(parents), (_CHILDREN, 2))
    own = rng.random((_CHILDREN, 1)) < 0.5
    mixed = rng.random((_CHILDREN, parents.shape[1])) < 0.5
    return mutants(np.where(own | mixed, parents[pairs[:, 0]], parents[pairs[:, 1]]), rng)
