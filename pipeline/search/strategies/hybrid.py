"""Hybrid of the DQN and its control: the network's episodes evolve with plans of the models, one of which is picked.

Greedy, ε-greedy and Boltzmann episodes of the Q-network join the population from which the control evolves: knapsack
plans, mutants of the best measured plans, random plans. What it finds beyond ``dqn`` is evolution's merit, what it
finds beyond ``surrogate`` the network's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.records import PruningPlan
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.dqn.settings import Settings
from pipeline.search.genetic import evolve
from pipeline.search.planner import Array, Indices, repair_to_feasible
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategy import Problem
from pipeline.targets import Metric

__all__ = ["Hybrid", "Settings", "create"]

_POOL = 50
"""Episodes of each kind in the population from which the next plan is evolved."""
_EPSILON, _TEMPERATURE = 0.15, 0.02
"""Of these: share of random levels; and for Boltzmann's, in units of the reward."""
_VIOLATION = 1e3
"""Penalty on a missed target where only plans that meet it are wanted."""


class Hybrid(Dqn):
    """As the DQN, but its network's plans evolve with those of the models before one is picked."""

    def plan_for(self, limits: Mapping[Metric, float]) -> PruningPlan:
        """Return the plan of highest predicted reward for other targets, by the models as they are now.

        Of what the network plays, of the knapsack's plans and the measured ones, and of what evolves from them.

        Args:
            limits: shares of the base model's figures, for the metrics that the search has targets for.
        """
        proposer, planner = self._proposer, self._proposer.planner

        def worth(plans: Indices) -> Array:
            return planner.predicted_reward(plans, limits=limits) - _VIOLATION * planner.excess(plans, limits)

        with one_thread():
            measured = repair_to_feasible(planner, np.array([*proposer.rewards, planner.empty_plans(1)[0]]), limits)
            known = np.concatenate([self.network.rollout(1, limits), proposer.knapsack(limits), measured])
            plans = evolve(planner, known, worth, np.random.default_rng(planner.problem.seed), limits)
            return planner.plan(plans[worth(plans).argmax()])

    def _picked(self) -> list[int]:
        """Return the plan to try, of what has evolved."""
        return self._proposer.pick(self._pool())

    def _pool(self) -> Indices:
        """Return the population from which the next plan is evolved, partly episodes for relaxed limits."""
        planner = self._proposer.planner
        limits, relaxed = planner.problem.limits, planner.relaxed_limits()
        kinds = np.repeat(np.arange(4), [1, 1, _POOL, _POOL])
        played = self.network.rollout(
            len(kinds),
            {metric: np.where(kinds % 2, relaxed[metric], limits[metric]) for metric in limits},
            epsilon=_EPSILON * (kinds == 2),
            temperature=_TEMPERATURE * (kinds == 3),
        )
        played = repair_to_feasible(planner, played)
        if "warm_start" in self.settings.ablate:
            return played
        return np.concatenate([played, self._proposer.initial_population()])


def create(problem: Problem) -> Hybrid:
    """Return the strategy."""
    return Hybrid(problem)
