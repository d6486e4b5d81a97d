"""PuRL's environment with whole filters: a threshold of their norms becomes a pruning level of their group.

The paper's thresholds are of single weights, which lie around zero. Here they are of the norms of a group's filters,
from the mean less 2.2 to the mean plus 2.2 of their standard deviation: the share of the filters below is rounded up to
a legal level. A group has few levels, so neighbouring thresholds often mean the same one. Where the norms are not known
they count as normally distributed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import NormalDist

import numpy as np

from pipeline.records import LEVELS, PruningPlan
from pipeline.search.planner import Array, Planner, indices
from pipeline.search.purl.episodes import ACTIONS, Choices
from pipeline.search.repair import Repair
from pipeline.search.strategy import Problem

THRESHOLDS = tuple(round(-2.2 + 0.2 * i, 1) for i in range(ACTIONS))
"""In standard deviations from the mean."""


class Filters:
    """Places are groups of channels, choices are indices of their levels."""

    first_action = None

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        """Work out what each threshold means for each group."""
        self._problem = problem
        self._planner = Planner(problem)
        self._repair = Repair(self._planner, rng)
        self.levels = _levels_of_thresholds(problem, self._repair.options)
        """The level index that each threshold means for each group, (groups, thresholds)."""

    @property
    def places(self) -> int:
        """How many groups there are."""
        return self._planner.groups

    def apply_threshold(self, before: Choices, places: Sequence[int], action: int) -> Choices:
        """Return the plan with these groups at the legal levels nearest to a threshold's."""
        levels = before
        for group in places:
            distance = np.abs(np.arange(len(LEVELS)) - self.levels[group][action])
            legal = self._planner.mask(np.array([levels]), group)[0]
            levels = self._repair.with_level(levels, group, int(np.where(legal, distance, np.inf).argmin()))
        return levels

    def saving_reached(self, plans: Sequence[Choices]) -> Array:
        """Return how much of the wanted saving plans reach, by the worst of the targets, (plans,); 1 without any."""
        costs = self._problem.costs.predict(np.array(plans))
        reached = np.ones(len(plans))
        for metric, limit in self._problem.limits.items():
            if metric in costs and limit < 1:
                reached = np.minimum(reached, (1 - costs[metric]) / (1 - limit))
        return reached

    def meets(self, choices: Choices) -> bool:
        """Return whether a plan is predicted to meet the targets."""
        return bool(self._repair.excess([choices])[0] == 0)

    def propose_new(self, near: Choices, asked: Collection[Choices]) -> Choices:
        """Return a plan near another that was not asked for, while there is one."""
        return self._repair.propose_new(near, asked)

    def plan(self, choices: Choices) -> PruningPlan:
        """Return the plan of these levels."""
        return self._planner.plan(choices)

    def choices(self, plan: PruningPlan) -> Choices:
        """Return a plan's level indices."""
        return tuple(indices(plan))


def below(threshold: float, norms: Sequence[float]) -> float:
    """Return the share of norms under their mean and ``threshold`` standard deviations; without any, of a normal's.

    >>> below(0.0, (1.0, 2.0, 3.0, 10.0)), below(-2.2, (1.0, 2.0, 3.0, 10.0)), below(0.0, ())
    (0.75, 0.0, 0.5)
    """
    if not norms:
        return NormalDist().cdf(threshold)
    sizes = np.array(norms)
    return float((sizes < sizes.mean() + threshold * sizes.std()).mean())


def _levels_of_thresholds(problem: Problem, options: Sequence[Sequence[int]]) -> list[list[int]]:
    norms = problem.norms or [()] * len(options)
    found = []
    for group, own, sizes in zip(problem.space.groups, options, norms, strict=True):
        lost = [1 - group.kept[LEVELS[o]] / group.channels for o in own]
        shares = [below(threshold, sizes) for threshold in THRESHOLDS]
        found.append([next((o for o, gone in zip(own, lost, strict=True) if gone >= s), own[-1]) for s in shares])
    return found
