"""Random levels among those that keep the target reachable: the control that every learner has to beat."""

from __future__ import annotations

import numpy as np

from pipeline.cost.accuracy import AccuracyModel
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.planning import Indices, Planner
from pipeline.search.strategy import Problem

_TRIES = 200


class RandomSearch:
    """Draws a level for each group, uniformly among the legal ones; repeats no plan while there are others."""

    def __init__(self, problem: Problem) -> None:
        """Seed the draws."""
        self._planner = Planner(problem, AccuracyModel(problem.base_accuracy, problem.images))
        self._rng = np.random.default_rng(problem.seed)
        self._asked: set[str] = set()

    def ask(self) -> PruningPlan:
        """Return a plan not asked before, if one is found."""
        for _ in range(_TRIES):
            levels = draw(self._planner, 1, self._rng)[0]
            if self._planner.key(levels) not in self._asked:
                break
        self._asked.add(self._planner.key(levels))
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Learn nothing."""


def draw(planner: Planner, plans: int, rng: np.random.Generator) -> Indices:
    """Return random plans within the masks, (plans, groups)."""
    levels = planner.blank(plans)
    for step in range(planner.groups):
        noise = rng.random((plans, len(LEVELS)))
        levels[:, step] = np.where(planner.mask(levels, step), noise, -1).argmax(1)
    return levels


def create(problem: Problem) -> RandomSearch:
    """Return the strategy."""
    return RandomSearch(problem)
