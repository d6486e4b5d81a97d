"""Sensitivity analysis and multiple-choice knapsack, then pairwise swaps.

No model learns here: losses in logits of accuracy count as if they added up, and where they do not, only the swaps,
each of which is evaluated, can tell. Li et al. 2017 (Pruning Filters for Efficient ConvNets) read sensitivities so; a
multiple-choice knapsack over latency tables is SMCP's (Humble et al. 2022).
"""

from __future__ import annotations

import itertools

import numpy as np
from pydantic import Field

from pipeline.records import PruningPlan, Trial
from pipeline.search.knapsack import knapsack_plans
from pipeline.search.planner import Array, Indices, Planner, indices, repair_to_feasible
from pipeline.search.proposer import deepest_cuts
from pipeline.search.random_plans import unasked
from pipeline.search.strategy import Problem, StrategySettings, settings_of

_MOST_SWAPS = 4000
_UNKNOWN = 1.5
"""Loss of a whole group, in logits, where nothing at all was measured."""


class Settings(StrategySettings):
    """What the losses are learnt from."""

    single_cut_share: float = Field(0.5, gt=0, le=1)
    """Share of the trials that single cuts may take."""


class Knapsack:
    """Asks for single cuts, for the knapsack's plans by what they lost, then for swaps of two groups in the best."""

    def __init__(self, problem: Problem) -> None:
        """Nothing is measured yet."""
        self._problem = problem
        self._planner = Planner(problem)
        self._rng = np.random.default_rng(problem.seed)
        self._queue = self._single_cuts(max(1, int(settings_of(problem, Settings).single_cut_share * problem.trials)))
        self._logits: dict[tuple[int, ...], float] = {}
        self._rewards: dict[tuple[int, ...], float] = {}
        self._asked: set[tuple[int, ...]] = set()

    def ask(self) -> PruningPlan:
        """Return the next plan."""
        if self._queue:
            levels = self._queue.pop(0)
        else:
            loss = self._losses()
            levels = self._first_new(knapsack_plans(self._planner, loss), loss, near_best=True)
        self._asked.add(tuple(levels))
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in what a plan lost; one that failed teaches only not to ask for it again."""
        if trial.candidate is None:
            return
        levels = tuple(indices(trial.plan))
        self._logits[levels] = self._logit(trial.candidate.accuracy)
        if trial.reward is not None:
            self._rewards[levels] = trial.reward

    def _single_cuts(self, most: int) -> list[list[int]]:
        """Return single cuts: every group at its deepest first, then at the levels between."""
        cuts, options = self._planner.single_cuts(), self._planner.options()
        plans = deepest_cuts(self._planner, most)
        between = [cuts[group, level].tolist() for group, level in zip(*np.nonzero(options), strict=True) if level]
        plans += sorted((plan for plan in between if plan not in plans), key=lambda plan: -max(plan))
        return plans[:most]

    def _losses(self) -> Array:
        """Return what each group loses at each level, (groups, levels), in logits; between known levels a line."""
        gone, cuts = self._planner.gone(), self._planner.single_cuts()
        whole = self._logit(self._problem.base_accuracy)
        known: dict[int, list[tuple[float, float]]] = {}
        for group, level in np.ndindex(gone.shape):
            logit = self._logits.get(tuple(cuts[group, level].tolist()))
            if level and logit is not None:
                known.setdefault(group, []).append((float(gone[group, level]), whole - logit))
        slopes = [loss / share for found in known.values() for share, loss in found if share > 0]
        losses: Array = (np.mean(slopes) if slopes else _UNKNOWN) * gone
        for group, found in known.items():
            shares, lost = zip((0.0, 0.0), *sorted(found), strict=True)
            losses[group] = np.interp(gone[group], shares, lost)
        return losses

    def _logit(self, accuracy: float) -> float:
        margin = 0.5 / self._problem.images
        share = float(np.clip(accuracy, margin, 1 - margin))
        return float(np.log(share / (1 - share)))

    def _first_new(self, plans: Indices, loss: Array, *, near_best: bool) -> list[int]:
        """Return the plan that is within the targets and loses least of those not asked for."""
        groups = np.arange(self._planner.groups)
        over = self._planner.excess(plans)
        for row in np.lexsort((loss[groups, plans].sum(1), over)).tolist():
            if tuple(plans[row].tolist()) not in self._asked:
                return [int(level) for level in plans[row]]
        if near_best and self._rewards:
            return self._first_new(self._swaps(), loss, near_best=False)
        return list(unasked(self._planner, self._asked))

    def _swaps(self) -> Indices:
        """Return the best measured plan within the targets with two groups' levels changed, (plans, groups)."""
        best = np.array(max(self._rewards, key=self._rewards.__getitem__))
        moves = [(group, level) for group, level in zip(*np.nonzero(self._planner.options()), strict=True)]
        pairs = [(a, b) for a, b in itertools.combinations(moves, 2) if a[0] != b[0]]
        drawn = self._rng.permutation(len(pairs))[:_MOST_SWAPS]
        plans = np.tile(best, (len(drawn), 1))
        for row, pair in enumerate(drawn.tolist()):
            for group, level in pairs[pair]:
                plans[row, group] = level
        return np.unique(repair_to_feasible(self._planner, plans), axis=0)


def create(problem: Problem) -> Knapsack:
    """Return the strategy."""
    return Knapsack(problem)
