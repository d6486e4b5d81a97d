"""Uniform pruning: the same level everywhere, from shallow to deep."""

from __future__ import annotations

from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.strategy import Problem


class Uniform:
    """Goes through the levels below 100 %, each group taking the nearest legal one that cuts no deeper."""

    def __init__(self, problem: Problem) -> None:
        """Order the levels."""
        self._problem = problem
        self._turn = 0

    def ask(self) -> PruningPlan:
        """Return the next uniform plan; after the deepest it begins again."""
        wanted = LEVELS[1 + self._turn % (len(LEVELS) - 2)]
        self._turn += 1
        levels = tuple(max(lv for lv in g.levels if lv <= wanted) for g in self._problem.space.groups)
        return PruningPlan(levels=levels, criterion=self._problem.criterion)

    def tell(self, trial: Trial) -> None:
        """Learn nothing."""


def create(problem: Problem) -> Uniform:
    """Return the strategy."""
    return Uniform(problem)
