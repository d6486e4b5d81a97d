"""The DQN's honest control: the same models, probes and choice, but evolution in place of the network.

What it finds as well as the DQN is the models' merit; what the DQN finds beyond it is the DQN's.
"""

from __future__ import annotations

import numpy as np

from pipeline.records import PruningPlan, Trial
from pipeline.search.network import one_thread
from pipeline.search.planning import Indices, legalised
from pipeline.search.proposing import Proposer
from pipeline.search.strategies.random import draw
from pipeline.search.strategy import Problem

_POPULATION = 200
_GENERATIONS = 6
_PARENTS = 50


class Surrogate:
    """Asks for probes of single groups first, then for what evolution on the models finds."""

    def __init__(self, problem: Problem) -> None:
        """Know nothing yet."""
        self._proposer = Proposer(problem)
        self._planner, self._rng = self._proposer.planner, self._proposer.rng

    def ask(self) -> PruningPlan:
        """Return the next plan."""
        with one_thread():
            levels = self._proposer.ask_probe()
            if levels is None:
                self._proposer.learn()
                levels = self._proposer.pick(self._evolved())
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        self._proposer.tell(trial)

    def _evolved(self) -> Indices:
        """Return the last generation and its parents, bred for what they promise, (plans, groups)."""
        hope = self._proposer.next_hope()
        plans = np.concatenate(
            [self._proposer.knapsack(), self._proposer.near_the_best(), draw(self._planner, _POPULATION, self._rng)]
        )
        for _ in range(_GENERATIONS):
            plans = np.unique(plans, axis=0)
            parents = plans[self._proposer.scores(plans, hope).argsort()[::-1][:_PARENTS]]
            plans = np.concatenate([parents, legalised(self._planner, self._children(parents), self._proposer.beyond)])
        return plans

    def _children(self, parents: Indices) -> Indices:
        """Return children of two parents each, mutated."""
        pairs = self._rng.integers(0, len(parents), (_POPULATION, 2))
        own = self._rng.random((_POPULATION, 1)) < 0.5
        mixed = self._rng.random((_POPULATION, parents.shape[1])) < 0.5
        return self._proposer.mutants(np.where(own | mixed, parents[pairs[:, 0]], parents[pairs[:, 1]]))


def create(problem: Problem) -> Surrogate:
    """Return the strategy."""
    return Surrogate(problem)
