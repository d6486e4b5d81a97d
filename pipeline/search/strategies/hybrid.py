"""Hybrid of the DQN and its control: the network's episodes evolve with plans of the models, one of which is picked.

Greedy, ε-greedy and Boltzmann episodes of the Q-network join the population from which the control evolves: knapsack
plans, mutants of the best measured plans, random plans. What it finds beyond ``dqn`` is evolution's merit, what it
finds beyond ``surrogate`` the network's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.records import PruningPlan, Trial
from pipeline.records.learning import Burst
from pipeline.search.dqn.goal_conditioned import GoalConditionedDqn
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.dqn.settings import Settings
from pipeline.search.genetic import evolve
from pipeline.search.planner import Array, Indices, repair_to_feasible
from pipeline.search.proposer import Proposer
from pipeline.search.strategy import Problem, settings_of
from pipeline.targets import Metric

__all__ = ["Hybrid", "Settings", "create"]

_POOL = 50
"""Episodes of each kind in the population from which the next plan is evolved."""
_EPSILON, _TEMPERATURE = 0.15, 0.02
"""Of these: share of random levels; and for Boltzmann's, in units of the reward."""
_VIOLATION = 1e3
"""Penalty on a missed target where only plans that meet it are wanted."""


class Hybrid:
    """Single cuts first, then plans that are evolved from the network's and the models'."""

    def __init__(self, problem: Problem) -> None:
        """Build network, models and replay; nothing is trained yet."""
        self.settings = settings_of(problem, Settings)
        self._proposer = Proposer(problem, self.settings)
        self.network = GoalConditionedDqn(self._proposer, self.settings)

    def ask(self) -> PruningPlan:
        """Return the next plan; trains the network first where a burst is due."""
        proposer = self._proposer
        with one_thread():
            levels = proposer.ask_single_cut()
            if levels is None:
                proposer.learn()
                if self.network.is_due():
                    self.network.train()
                levels = proposer.pick(self._pool())
        return proposer.planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        self._proposer.tell(trial)
        self.network.tell(trial)

    def policy(self) -> bytes:
        """Return the network as it is now, a safetensors file."""
        return self.network.policy()

    def learnt(self) -> Sequence[Burst]:
        """Return what stood after each burst of learning."""
        return tuple(self.network.learnt)

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
