"""Random search among levels that keep the target reachable: the control of every learner."""

from __future__ import annotations

import numpy as np

from pipeline.records import PruningPlan, Trial
from pipeline.search.planner import Planner
from pipeline.search.random_plans import draw, unasked
from pipeline.search.strategy import Problem

_TRIES = 50


class RandomSearch:
    """Draws a level for each group, uniformly among the legal ones; repeats no plan while there are others."""

    def __init__(self, problem: Problem) -> None:
        """Seed the draws."""
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._asked: set[tuple[int, ...]] = set()

    def ask(self) -> PruningPlan:
        """Return a plan not asked before while there is one."""
        drawn = map(tuple, draw(self._planner, _TRIES, self._rng).tolist())
        levels = next((plan for plan in drawn if plan not in self._asked), None)
        levels = levels or unasked(self._planner, self._asked)
        self._asked.add(levels)
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Learn nothing."""


def create(problem: Problem) -> RandomSearch:
    """Return the strategy."""
    return RandomSearch(problem)
