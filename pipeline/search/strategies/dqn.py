"""DQN: the Q-network picks every plan, played on simulated episodes, goal-conditioned.

A real evaluation costs seconds, a simulated one microseconds. So plans that come back measured refit two models
(accuracy: a Gaussian process; cost: the board's tables), and the network plays bursts of episodes against them:

    1  refit the models to all that was measured; relabel the replay by them
    2  simulate: episodes from the network, half of them for targets about the wanted one, half for any; and as examples
       the knapsack's plan, the best measured plans and their mutants
    3  learn: double Q-learning; each step's reward is its change of the shaping potential (Ng et al. 1999), the
       last one's of a measured plan what the board measured
    4  play: the plans of highest value by beam search on the Q-values, for the wanted target and its neighbours, and
       ε-greedy and Boltzmann episodes that explore; of these, try the one that is most probably better than the best
       so far and meets the target

Before the network has anything to learn from, single cuts are measured: each group alone, as deep as it goes. With
``mode: direct`` none of this is used, see :mod:`pipeline.search.dqn.direct`. The strategy ``hybrid`` evolves the
network's plans with others before one is picked.

    Sutton 1990 (Dyna: simulated episodes), Schaul et al. 2015 (universal value functions: the target as an input)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.records import PruningPlan, SearchSpace, Trial
from pipeline.records.learning import Burst
from pipeline.search.dqn.direct import DirectDqn
from pipeline.search.dqn.goal_conditioned import GoalConditionedDqn, learnt_beside, train_beside
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import Array, Indices, Limits, Predictions
from pipeline.search.proposer import Proposer
from pipeline.search.strategy import Problem, Strategy, settings_of
from pipeline.targets import Metric

__all__ = ["MODES", "Dqn", "Settings", "create"]

MODES = ("imagined", "direct")

_TARGETS = 6
"""Targets from the wanted one to the farthest that plans are considered for."""
_EXPLORING = 200
"""Episodes of each kind that explore: ε-greedy and Boltzmann."""
_EPSILON, _TEMPERATURE = 0.15, 0.02
"""Of these: share of random levels; and Boltzmann's, in units of the reward."""
_VIOLATION = 1e3
"""Penalty on a missed target where only plans that meet it are wanted."""


class Dqn:
    """Single cuts first, then plans of a Q-network that is trained on simulated episodes."""

    def __init__(self, problem: Problem) -> None:
        """Build network, models and replay, of each condition of the data its own; nothing is trained yet."""
        self.settings = settings_of(problem, Settings)
        self._conditions = tuple(one.name for one in problem.conditions)
        self._proposers: list[Proposer] = []
        self._networks: list[GoalConditionedDqn] = []
        for one in problem.of_each_condition():
            beside, shared = (self._proposers[0], self._networks[0]) if self._proposers else (None, None)
            self._proposers.append(Proposer(one, self.settings, beside))
            self._networks.append(GoalConditionedDqn(self._proposers[-1], self.settings, shared))
        self._now = 0
        """Number of the condition that the network plays under now."""
        self._to_come: list[int] = []
        """Conditions of the next episodes, each as often as any other."""
        self.condition = ""
        """Of the data, for which the last plan was asked; empty: for all alike, as single cuts are."""

    @property
    def network(self) -> GoalConditionedDqn:
        """The network, with the replay and the models of the condition that it plays under now."""
        return self._networks[self._now]

    @property
    def _proposer(self) -> Proposer:
        return self._proposers[self._now]

    def ask(self) -> PruningPlan:
        """Return the next plan, for a condition that is drawn; trains the network first where a burst is due."""
        with one_thread():
            levels = self._proposers[0].ask_single_cut()
            if levels is None:
                self._draw_condition()
                self._learn()
                if self.network.is_due():
                    train_beside(self._networks)
                levels = self._picked()
        return self._proposer.planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial, under each condition; one that failed teaches only not to ask for it again."""
        for number, proposer in enumerate(self._proposers):
            seen = trial.under(self._conditions[number]) if self._conditions else trial
            proposer.tell(seen)
            self._networks[number].tell(seen)

    @property
    def space(self) -> SearchSpace:
        """What it decides on."""
        return self._proposers[0].problem.space

    @property
    def measured(self) -> int:
        """How many plans it knows the measured reward of."""
        return len(self._networks[0].replay.measured)

    def policy(self) -> bytes:
        """Return the network as it is now, a safetensors file."""
        return self.network.policy()

    def learnt(self) -> Sequence[Burst]:
        """Return what stood after each burst of learning."""
        return learnt_beside(self._networks)

    def learn_from(self, policy: bytes, updates: int) -> Burst:
        """Go on with another network for a burst of simulated episodes; return what stood then.

        Args:
            policy: as ``policy`` returns it, of a network of the same structure.
            updates: gradient steps.

        Raises:
            ConfigError: it is of another structure.
        """
        with one_thread():
            self._learn()
            self._networks[0].begin_with(policy)
            train_beside(self._networks, updates)
        return self._networks[0].learnt[-1]

    def _learn(self) -> None:
        for proposer in self._proposers:
            proposer.learn()

    def _draw_condition(self) -> None:
        """Draw the condition of the next episode: in any order, none twice before each came once."""
        if not self._conditions:
            return
        if not self._to_come:
            self._to_come = self._proposers[0].rng.permutation(len(self._conditions)).tolist()
        self._now = self._to_come.pop()
        self.condition = self._conditions[self._now]

    def plan_for(self, limits: Mapping[Metric, float]) -> PruningPlan:
        """Return the plan of the network for other targets, by the models as they are now.

        Of the plans of highest value, the one of highest predicted reward.

        Args:
            limits: shares of the base model's figures, for the metrics that the search has targets for.
        """
        return self.planned(limits)[0]

    def planned(
        self, limits: Mapping[Metric, float], *, is_trained: bool = True, condition: str = ""
    ) -> tuple[PruningPlan, Predictions]:
        """Return the plan for other targets, and what is predicted of it.

        Args:
            limits: as of ``plan_for``.
            is_trained: whether the network has learnt; else it does so first.
            condition: of the data, by name; empty: that of the last plan.

        Raises:
            ValueError: there is no such condition.
        """
        if condition:
            self._now = self._conditions.index(condition)
        planner = self._proposer.planner
        with one_thread():
            self._learn()
            if not is_trained:
                train_beside(self._networks)
            plans = self.network.beam_search(self.settings.beam, limits)
            worth = planner.predicted_reward(plans, limits=limits) - _VIOLATION * planner.excess(plans, limits)
            best = plans[[worth.argmax()]]
            return planner.plan(best[0]), planner.predictions(best, limits)

    def _picked(self) -> list[int]:
        """Return the plan to try, of those that the network plays."""
        return self._proposer.pick_among(self._played())

    def _played(self) -> Indices:
        """Return plans that the network plays for the wanted target and its neighbours, (plans, groups)."""
        planner, network = self._proposer.planner, self.network
        wanted, rng = planner.problem.limits, self._proposer.rng

        def relaxed(by: float | Array) -> Limits:
            return {metric: limit * (1 + by * (planner.slack - 1)) for metric, limit in wanted.items()}

        beams = [network.beam_search(self.settings.beam, relaxed(by)) for by in np.linspace(0, 1, _TARGETS).tolist()]
        explores: Array = np.resize([0.0, 1.0], 2 * _EXPLORING)
        exploring = network.rollout(
            2 * _EXPLORING,
            relaxed(rng.uniform(0, 1, 2 * _EXPLORING)),
            epsilon=_EPSILON * explores,
            temperature=_TEMPERATURE * (1 - explores),
        )
        played = np.concatenate([*beams, exploring])
        considered = played[planner.can_meet(played)]
        return considered if len(considered) else played


def create(problem: Problem) -> Strategy:
    """Return the strategy in the mode that the problem asks for."""
    return DirectDqn(problem) if problem.mode == "direct" else Dqn(problem)
