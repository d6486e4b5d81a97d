"""Model-based DQN (Dyna): simulated episodes, goal-conditioned, uncertainty-aware acquisition.

A real evaluation costs seconds, a simulated one microseconds. So plans that come back measured refit two models
(accuracy: a Gaussian process; cost: the board's tables), and the network plays a burst of episodes against them:

    1  single cuts: each group alone, as deep as it goes
    2  refit the models to all that was measured; relabel the replay by them
    3  simulate: episodes from the network, half of them for the wanted target, half for others; and as examples the
       knapsack's plan, the best measured plans and their mutants
    4  learn: double Q-learning; each step's reward is its change of the shaping potential (Ng et al. 1999), the
       last one's of a measured plan what the board measured
    5  add greedy, ε-greedy and Boltzmann rollouts to the initial population of the control, evolve a few generations
       of all, and pick the plan that is most probably better than the best so far and meets the target

As the target is an input, one network plays for all of them. For one that was never searched for ``plan_for`` takes the
best by the models, of what the network plays among others: alone it plays worse than the knapsack on the same models.
With ``mode: direct`` none of this is used, see :mod:`pipeline.search.dqn.direct`.

    Sutton 1990 (Dyna: simulated episodes), Schaul et al. 2015 (universal value functions: the target as an input)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.dqn.direct import DirectDqn
from pipeline.search.dqn.q_network import Learner, one_thread
from pipeline.search.dqn.replay_buffer import Replay
from pipeline.search.dqn.settings import Settings
from pipeline.search.genetic import evolve
from pipeline.search.planner import Array, Indices, Limits, indices, repair_to_feasible
from pipeline.search.proposer import Proposer
from pipeline.search.random_plans import draw
from pipeline.search.strategy import Problem, Strategy, settings_of
from pipeline.targets import Metric

__all__ = ["MODES", "Dqn", "Settings", "create"]

MODES = ("imagined", "direct")

_PARALLEL = 1000
"""Episodes that are simulated side by side."""
_POOL = 50
"""Rollouts of each kind in the population from which the next plan is evolved."""
_EPSILON, _TEMPERATURE = 0.15, 0.02
"""Of these: share of random levels; and for Boltzmann's, in units of the reward."""
_TARGETS = (0.35, 0.95)
"""Simulated targets are drawn between these shares of the base model's figure."""
_VIOLATION = 1e3
"""Penalty on a missed target where only plans that meet it are wanted."""
_COOLING = 8
"""Bursts over which exploration falls to a quarter."""


class Dqn:
    """Single cuts first, then plans of a Q-network that is trained on simulated episodes."""

    def __init__(self, problem: Problem) -> None:
        """Build network, models and replay; nothing is trained yet."""
        self.settings = settings_of(problem, Settings)
        self._proposer = Proposer(problem, self.settings)
        self._planner, self._rng = self._proposer.planner, self._proposer.rng
        self._learner = Learner(self._planner.observation_size, self.settings, problem.seed)
        self.replay = Replay(self._planner, self.settings)
        self._bursts, self._measured_before = 0, 0

    def ask(self) -> PruningPlan:
        """Return the next plan; trains the network first where a burst is due."""
        with one_thread():
            levels = self._proposer.ask_single_cut()
            if levels is None:
                self._proposer.learn()
                if self._is_due():
                    self._train()
                levels = self._proposer.pick(self._pool())
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        self._proposer.tell(trial)
        if trial.candidate is not None and trial.reward is not None:
            self.replay.add_measured(indices(trial.plan), trial.reward, is_feasible=trial.feasible)

    def plan_for(self, limits: Mapping[Metric, float]) -> PruningPlan:
        """Return the plan of highest predicted reward for other targets, by the models as they are now.

        Of what the network plays, of the knapsack's plans and the measured ones, and of what evolves from them.

        Args:
            limits: shares of the base model's figures, for the metrics that the search has targets for.
        """
        planner, proposer = self._planner, self._proposer

        def worth(plans: Indices) -> Array:
            return planner.predicted_reward(plans, limits=limits) - _VIOLATION * planner.excess(plans, limits)

        with one_thread():
            measured = repair_to_feasible(planner, np.array([*proposer.rewards, planner.empty_plans(1)[0]]), limits)
            known = np.concatenate([self._rollout(1, limits), proposer.knapsack(limits), measured])
            plans = evolve(planner, known, worth, np.random.default_rng(planner.problem.seed), limits)
            return planner.plan(plans[worth(plans).argmax()])

    # ------------------------------------------------------------ learn

    def _is_due(self) -> bool:
        """Return whether enough was measured since the last burst that another one has something to learn."""
        return self._bursts == 0 or len(self.replay.measured) >= self.settings.retrain_growth * self._measured_before

    def _train(self) -> None:
        """Play a burst of episodes against the models, then learn from them."""
        settings = self.settings
        first = self._bursts == 0
        if first and settings.first_simulated_episodes:
            self._add_episodes(settings.first_simulated_episodes // 2, at_random=True)
        self.simulate(settings.first_simulated_episodes // 2 if first else settings.simulated_episodes)
        if "warm_start" not in settings.ablate:
            examples = np.concatenate([self._proposer.knapsack(), self._proposer.mutate_incumbents()])
            self.replay.add(examples, self.replay.goals(len(examples)))
        if len(self.replay.plans) == 0:  # nothing simulated, nothing measured
            self._add_episodes(_PARALLEL, at_random=True)
        self.replay.label()
        self.update(settings.first_updates if first else settings.updates)
        self._bursts, self._measured_before = self._bursts + 1, max(1, len(self.replay.measured))

    def simulate(self, episodes: int) -> None:
        """Play episodes against the models, with fewer random levels as the search goes on."""
        epsilon = self.settings.exploration * (1 - 0.75 * min(1.0, self._bursts / _COOLING))
        for start in range(0, episodes, _PARALLEL):
            self._add_episodes(min(_PARALLEL, episodes - start), epsilon)

    def update(self, times: int) -> None:
        """Take gradient steps on what the replay holds."""
        for _ in range(times):
            self._learner.update(self.replay.sample(self._rng))

    def _add_episodes(self, plans: int, epsilon: float = 1.0, *, at_random: bool = False) -> None:
        """Put episodes into the replay: the network's, or plans drawn at random."""
        goals = self._goals(plans)
        limits = self.replay.limits(goals)
        played = draw(self._planner, plans, self._rng, limits) if at_random else self._rollout(plans, limits, epsilon)
        self.replay.add(played, goals)

    def _goals(self, plans: int) -> Array:
        """Return targets to simulate plans for: the wanted one, and in every other plan one drawn at random."""
        goals = self.replay.goals(plans)
        if "goals" not in self.settings.ablate:
            goals[1::2] = self._rng.uniform(*_TARGETS, goals[1::2].shape)
        return goals

    # ------------------------------------------------------------ act

    def _rollout(
        self,
        plans: int,
        limits: Limits | None = None,
        epsilon: float | Array = 0.0,
        temperature: float | Array = 0.0,
    ) -> Indices:
        """Return plans played by the network, (plans, groups); settings are one for all plans, or (plans,).

        Args:
            limits: the targets; None: the problem's.
            epsilon: share of the levels that are drawn at random.
            temperature: of Boltzmann's draws among the others, by Gumbel's trick; 0 is greedy.
        """
        levels = self._planner.empty_plans(plans)
        epsilon, temperature = np.reshape(epsilon, (-1, 1)), np.reshape(temperature, (-1, 1))
        for step in range(self._planner.groups):
            mask = self._planner.mask(levels, step, limits)
            values: Array = self._learner.values(self._planner.observe(levels, step, limits=limits)).astype(float)
            if temperature.any():
                values = values + temperature * self._rng.gumbel(size=values.shape)
            if epsilon.any():
                noise = self._rng.random((plans, len(LEVELS)))
                values = np.where(self._rng.random((plans, 1)) < epsilon, noise, values)
            levels[:, step] = np.where(mask, values, -np.inf).argmax(1)
        return levels

    def _pool(self) -> Indices:
        """Return the population from which the next plan is evolved, partly rollouts for relaxed limits."""
        limits, relaxed = self._planner.problem.limits, self._planner.relaxed_limits()
        kinds = np.repeat(np.arange(4), [1, 1, _POOL, _POOL])
        played = self._rollout(
            len(kinds),
            {metric: np.where(kinds % 2, relaxed[metric], limits[metric]) for metric in limits},
            epsilon=_EPSILON * (kinds == 2),
            temperature=_TEMPERATURE * (kinds == 3),
        )
        played = repair_to_feasible(self._planner, played)
        if "warm_start" in self.settings.ablate:
            return played
        return np.concatenate([played, self._proposer.initial_population()])


def create(problem: Problem) -> Strategy:
    """Return the strategy in the mode that the problem asks for."""
    return DirectDqn(problem) if problem.mode == "direct" else Dqn(problem)
