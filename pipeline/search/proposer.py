"""Proposer: which plan to evaluate next: single cuts first, then the plan of highest acquisition value.

Shared by the strategies that learn a model of accuracy: the DQN, whose network brings plans of its own, and its
control, which has none. Candidate plans are evolved further, and the next is picked, by one score: the probability that
it is better than the best plan so far, or by how much it is expected to be (``acquisition``), and meets the targets.

    Kushner 1964 (probability of improvement), Gardner et al. 2014 (with constraints), Picheny et al. 2013 (of noisy
    figures)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr

from pipeline.predictors.accuracy import AccuracyModel
from pipeline.records import Trial
from pipeline.search.acquisition import log_expected_gain, log_probability
from pipeline.search.genetic import evolve, mutants
from pipeline.search.knapsack import knapsack_plans
from pipeline.search.planner import Array, Indices, Limits, Planner, Predictions, indices, repair_to_feasible
from pipeline.search.proposer_settings import ProposerSettings
from pipeline.search.random_plans import draw, unasked
from pipeline.search.strategy import Problem

_INCUMBENTS, _MUTANTS = 3, 60
"""Best measured plans that are mutated, and mutants of each."""
_RANDOM = 200
"""Random plans in the initial population; also where evolution brings nothing new."""
_BETTER = 0.002
"""So much more reward is better: 0.2 points of accuracy."""
_LEAST_WORTH = 1e-9
"""Of accuracy in the reward, so that what accuracy a plan needs is a number."""
_ACQUISITIONS = {"probability": log_probability, "expected": log_expected_gain}


class Proposer:
    """Plans that were asked for and evaluated, and the accuracy model fitted to them."""

    def __init__(self, problem: Problem, settings: ProposerSettings, beside: Proposer | None = None) -> None:
        """Know nothing yet.

        Args:
            problem: under one condition of the data.
            settings: how it picks.
            beside: of the same plans under another condition: what was asked for there is evaluated under this one too.
        """
        self.problem = problem
        self.accuracy = AccuracyModel(problem.space, problem.base_accuracy, problem.images)
        self.planner = Planner(problem, self.accuracy, settings.ablate)
        self.rng: np.random.Generator = np.random.default_rng(problem.seed) if beside is None else beside.rng
        self._acquisition = settings.acquisition
        self.asked: set[tuple[int, ...]] = set() if beside is None else beside.asked
        self.rewards: dict[tuple[int, ...], float] = {}
        """Of measured plans."""
        self._feasible: list[list[int]] = []
        """Plans that met the targets as measured."""
        self._evaluated: list[tuple[list[int], float]] = []
        self._pending: dict[tuple[int, ...], None] = {} if beside is None else beside._pending
        """Plans that are still being evaluated, in order."""
        self._fitted: tuple[int, tuple[tuple[int, ...], ...]] = (0, ())
        """How many were evaluated, and which were pending, when the model was fitted."""
        self._single_cuts = deepest_cuts(self.planner, int(settings.single_cut_share * problem.trials))

    def ask_single_cut(self) -> list[int] | None:
        """Return the next single cut; None: they are through."""
        if not self._single_cuts:
            return None
        return self._mark_pending(self._single_cuts.pop(0))

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        levels = indices(trial.plan)
        self._pending.pop(tuple(levels), None)
        if trial.candidate is None:
            return
        self._evaluated.append((levels, trial.candidate.accuracy))
        if trial.reward is not None:
            self.rewards[tuple(levels)] = trial.reward
            if trial.feasible:
                self._feasible.append(levels)

    def learn(self) -> None:
        """Fit the accuracy model to all evaluated plans; pending ones count as predicted (Kriging believer)."""
        known = (len(self._evaluated), tuple(self._pending))
        if self._evaluated and known != self._fitted:
            self.accuracy.fit(*map(list, zip(*self._evaluated, strict=True)))
            self.accuracy.believe(known[1])
            self._fitted = known

    def _mark_pending(self, levels: list[int]) -> list[int]:
        """Note that a plan was asked for, and return it."""
        self.asked.add(tuple(levels))
        self._pending[tuple(levels)] = None
        return levels

    # ------------------------------------------------------------ plans to choose among

    def knapsack(self, limits: Limits | None = None) -> Indices:
        """Return the knapsack's plans by the accuracy model's single cuts, (plans, groups)."""
        cuts = self.planner.single_cuts()
        logits = self.accuracy.mean(cuts.reshape(-1, self.planner.groups)).reshape(cuts.shape[:2])
        return knapsack_plans(self.planner, logits[:, :1] - logits, limits)

    def mutate_incumbents(self) -> Indices:
        """Return mutants of the incumbents, the best measured plans, repaired to be feasible, (plans, groups)."""
        best = sorted(self.rewards, key=self.rewards.__getitem__, reverse=True)[:_INCUMBENTS]
        if not best:
            return self.planner.empty_plans(0)
        return repair_to_feasible(self.planner, mutants(np.repeat(np.array(best), _MUTANTS, axis=0), self.rng))

    def initial_population(self) -> Indices:
        """Return the initial population: knapsack plans, mutants of the incumbents, random plans, (plans, groups)."""
        return np.concatenate([self.knapsack(), self.mutate_incumbents(), draw(self.planner, _RANDOM, self.rng)])

    # ------------------------------------------------------------ the choice

    def pick(self, pool: Indices) -> list[int]:
        """Return the best plan evolved from a pool, (plans, groups), that was not asked for; else any that was not."""
        return self.pick_among(evolve(self.planner, pool, self.scores, self.rng))

    def pick_among(self, plans: Indices) -> list[int]:
        """Return the best of plans, (plans, groups), that was not asked for; else any that was not."""
        fresh = self._not_asked(np.unique(plans, axis=0))
        if len(fresh) == 0:
            fresh = self._not_asked(draw(self.planner, _RANDOM, self.rng))
        if len(fresh):
            levels = [int(level) for level in fresh[self.scores(fresh).argmax()]]
        else:
            levels = list(unasked(self.planner, self.asked))
        return self._mark_pending(levels)

    def scores(self, plans: Indices) -> Array:
        """Return what plans are worth a trial, (plans,), as a logarithm.

        The probability that they are better than the best so far, or by how much they are expected to be; times the
        probability that they meet the targets. What accuracy that takes follows from what else they are to earn.

        The best so far is that of the plans that met the targets, as the models see it now: the highest of many noisy
        rewards is high by luck. While there is none, it is the least predicted of any of ``plans``: the first one is
        then surest to meet the targets, and shows the models deep cuts, which no single cut did.
        """
        predicted = self.planner.predictions(plans)
        potential = self.planner.potential(plans, predicted)
        best = self.planner.potential(np.array(self._feasible)).max() if self._feasible else potential.min()
        worth = max(float(np.mean(self.problem.weights.alpha)), _LEAST_WORTH) / self.problem.base_accuracy
        needed = predicted.accuracy * self.problem.base_accuracy + (best + _BETTER - potential) / worth
        logit, deviation = self.accuracy.predict(plans)
        return _ACQUISITIONS[self._acquisition](logit, deviation, needed) + self._log_feasibility(plans, predicted)

    def _log_feasibility(self, plans: Indices, predicted: Predictions) -> Array:
        """Return the logarithm of the probability that plans meet the targets as measured, (plans,)."""
        uncertainty = self.problem.costs.uncertainty(plans)
        total = np.zeros(len(plans))
        for metric, limit in self.problem.limits.items():
            if metric in uncertainty:
                room = limit / (1 - self.problem.margin) - predicted.costs[metric]
                total += log_ndtr(room / (uncertainty[metric] * predicted.costs[metric]))
        return total

    def _not_asked(self, plans: Indices) -> Indices:
        return np.array([plan for plan in plans if tuple(plan.tolist()) not in self.asked], dtype=np.int64)


def deepest_cuts(planner: Planner, most: int) -> list[list[int]]:
    """Return plans that cut one group as deep as it goes: what informs the accuracy model most at the start.

    Removals of blocks come first, then the groups within them; of more than ``most``, an even choice.
    """
    cuts, options = planner.single_cuts(), planner.options()
    groups = [group for group in range(planner.groups) if options[group].any() and planner.owner[group] == group]
    followers = [group for group in range(planner.groups) if planner.owner[group] != group and options[group, 1:].any()]
    deepest = [cuts[group, np.flatnonzero(options[group])[-1]].tolist() for group in (*groups, *followers)]
    plans = [plan for plan in deepest if any(plan)]
    spread: Sequence[int] = np.linspace(0, len(plans) - 1, max(0, min(most, len(plans)))).round().astype(int).tolist()
    return [plans[i] for i in sorted(set(spread))]
