"""Which plan to evaluate next: probes of single cuts first, then by what models promise and by what they do not know.

Shared by the strategies that learn a model of accuracy: the DQN and its control, evolution on the same model. They
differ in how they come by plans; from those that they bring, the next is picked here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from pipeline.cost.accuracy import AccuracyModel, accuracy_of
from pipeline.records import Trial
from pipeline.search.knapsack import knapsack_plans
from pipeline.search.planning import REMOVE, Array, Indices, Limits, Outlook, Planner, indices, legalised
from pipeline.search.strategies.random import draw, unasked
from pipeline.search.strategy import Problem

_PROBES = 1 / 3
"""Share of the trials that probes may take."""
_BEST, _MUTANTS = 3, 60
"""Best measured plans whose neighbours are proposed, and how many of each."""
_EXPLORE_UNTIL = 0.6
"""Share of the trials after which plans are picked to be good rather than to be learnt from."""
_LATE_HOPES = (0.0, 0.5)
"""Deviations above the mean that count from then on, in turns."""
_SPARE = 300
"""Random plans drawn where nothing new is proposed."""
_BEYOND = 0.02
"""Plans that are predicted to miss a target by so much of it are looked at too: they may meet it all the same."""
_LEAST_LIKELY = 1e-6


class Proposer:
    """What is known of plans so far: asked, told, and the accuracy model fitted to it."""

    def __init__(self, problem: Problem) -> None:
        """Know nothing yet."""
        self.problem = problem
        self.accuracy = AccuracyModel(problem.space, problem.base_accuracy, problem.images)
        self.planner = Planner(problem, self.accuracy, problem.dqn.without)
        self.rng = np.random.default_rng(problem.seed)
        self.asked: set[tuple[int, ...]] = set()
        self.rewards: dict[tuple[int, ...], float] = {}
        """Of measured plans."""
        self.beyond: Limits = {m: limit / (1 - problem.margin) * (1 + _BEYOND) for m, limit in problem.limits.items()}
        """What plans that are looked at may be predicted to cost."""
        self._best: float | None = None
        """Highest reward of a plan that met the targets; None: no plan did yet."""
        self._told: list[tuple[list[int], float]] = []
        self._fitted = 0
        self._probes = deepest_cuts(self.planner, int(_PROBES * problem.trials))
        self._turn = 0

    def ask_probe(self) -> list[int] | None:
        """Return the next probe; None: they are through."""
        if not self._probes:
            return None
        levels = self._probes.pop(0)
        self.asked.add(tuple(levels))
        return levels

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        if trial.candidate is None:
            return
        levels = indices(trial.plan)
        self._told.append((levels, trial.candidate.accuracy))
        if trial.reward is not None:
            self.rewards[tuple(levels)] = trial.reward
            if trial.feasible:
                self._best = trial.reward if self._best is None else max(self._best, trial.reward)

    def learn(self) -> None:
        """Fit the accuracy model to what was told since."""
        if len(self._told) > self._fitted:
            self.accuracy.fit(*map(list, zip(*self._told, strict=True)))
            self._fitted = len(self._told)

    # ------------------------------------------------------------ plans to choose among

    def knapsack(self, limits: Limits | None = None) -> Indices:
        """Return the knapsack's plans by the accuracy model's single cuts, (plans, groups)."""
        cuts = self.planner.single_cuts()
        logits = self.accuracy.mean(cuts.reshape(-1, self.planner.groups)).reshape(cuts.shape[:2])
        return knapsack_plans(self.planner, logits[:, :1] - logits, limits)

    def near_the_best(self) -> Indices:
        """Return mutants of the best measured plans, made legal again by the masks, (plans, groups)."""
        best = sorted(self.rewards, key=self.rewards.__getitem__, reverse=True)[:_BEST]
        if not best:
            return self.planner.blank(0)
        return legalised(self.planner, self.mutants(np.repeat(np.array(best), _MUTANTS, axis=0)), self.beyond)

    def mutants(self, plans: Indices) -> Indices:
        """Return plans with one or two groups' levels drawn anew."""
        changed, rows = plans.copy(), np.arange(len(plans))
        changed[rows, self.rng.integers(0, plans.shape[1], len(rows))] = self.rng.integers(0, REMOVE + 1, len(rows))
        second = rows[self.rng.random(len(rows)) < 0.5]
        changed[second, self.rng.integers(0, plans.shape[1], len(second))] = self.rng.integers(
            0, REMOVE + 1, len(second)
        )
        return changed

    # ------------------------------------------------------------ the choice

    def pick(self, pool: Indices) -> list[int]:
        """Return the most hopeful plan of a pool, (plans, groups), that was not asked for; else any that was not."""
        fresh = self._not_asked(np.unique(pool, axis=0))
        if len(fresh) == 0:
            fresh = self._not_asked(draw(self.planner, _SPARE, self.rng))
        hope = self._hope(len(fresh))
        self._turn += 1
        if len(fresh):
            levels = [int(level) for level in fresh[self.scores(fresh, hope).argmax()]]
        else:
            levels = list(unasked(self.planner, self.asked))
        self.asked.add(tuple(levels))
        return levels

    def scores(self, plans: Indices, hope: float | Array) -> Array:
        """Return what plans are worth a trial, (plans,): what they gain on the best so far, if they meet the targets.

        The gain counts by the probability that it may be had (Gardner et al., Bayesian Optimization with Inequality
        Constraints, 2014); where there is none, what is lost counts the more, the less probable a plan is.

        Args:
            hope: the accuracy counts as so many deviations above what is expected.
        """
        outlook = self.planner.outlook(plans)
        mean, deviation = self.accuracy.predict(plans)
        hoped = (accuracy_of(mean + hope * deviation) - accuracy_of(mean)) / self.problem.base_accuracy
        gain = (
            self.planner.potential(plans, outlook) + np.mean(self.problem.weights.alpha) * hoped - (self._best or 0.0)
        )
        likely = np.maximum(self._likely(plans, outlook), _LEAST_LIKELY)
        scores: Array = np.where(gain > 0, gain * likely, gain / likely)
        return scores

    def _likely(self, plans: Indices, outlook: Outlook) -> Array:
        """Return the probability that plans meet the targets as measured, (plans,)."""
        doubts = self.problem.costs.uncertainty(plans)
        likely = np.ones(len(plans))
        for metric, limit in self.problem.limits.items():
            if metric in doubts:
                room = limit / (1 - self.problem.margin) - outlook.costs[metric]
                likely *= ndtr(room / (doubts[metric] * outlook.costs[metric]))
        return likely

    def next_hope(self) -> float:
        """Return how many deviations above the mean count in this turn; where it is drawn for each plan, one."""
        hope = self._hope(1)
        return float(np.max(hope))

    def _not_asked(self, plans: Indices) -> Indices:
        return np.array([plan for plan in plans if tuple(plan.tolist()) not in self.asked], dtype=np.int64)

    def _hope(self, plans: int) -> float | Array:
        """Return how many deviations above the mean count: explore in turns at first, later take what is known best."""
        if len(self.asked) > _EXPLORE_UNTIL * self.problem.trials:
            return _LATE_HOPES[self._turn % len(_LATE_HOPES)]
        return (0.0, 1.0, self.rng.standard_normal(plans), 2.0)[self._turn % 4]


def deepest_cuts(planner: Planner, most: int) -> list[list[int]]:
    """Return plans that cut one group as deep as it goes: what teaches the accuracy model most for a start.

    Removals of blocks come first, then the groups within them; of more than ``most``, an even choice.
    """
    cuts, options = planner.single_cuts(), planner.options()
    groups = [group for group in range(planner.groups) if options[group].any() and planner.owner[group] == group]
    followers = [group for group in range(planner.groups) if planner.owner[group] != group and options[group, 1:].any()]
    deepest = [cuts[group, np.flatnonzero(options[group])[-1]].tolist() for group in (*groups, *followers)]
    plans = [plan for plan in deepest if any(plan)]
    spread: Sequence[int] = np.linspace(0, len(plans) - 1, max(0, min(most, len(plans)))).round().astype(int).tolist()
    return [plans[i] for i in sorted(set(spread))]
