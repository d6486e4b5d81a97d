"""PuRL's environment as the paper plays it: of each layer the weights below α·σ become zero, σ being the layer's own.

What is saved, P, is the share of zero weights in the whole network (the paper's sparsity), and the target is the share
that may be left. Thresholds after which no plan could meet it any more, even with the highest one everywhere later, are
out: the lowest that still can takes their place. The paper begins at random; here the first episode takes the lowest
threshold that meets the target everywhere, which is plain magnitude pruning and what the others have to beat.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from pipeline.pruning.surgery.weight_sparsity import THRESHOLDS
from pipeline.records import PruningPlan
from pipeline.search.planner import Array
from pipeline.search.purl.episodes import Choices
from pipeline.search.strategy import Problem

_HIGHEST = len(THRESHOLDS) - 1
_TRIES = 50
"""Neighbours tried at each distance."""
_ROUNDING = 1e-12
"""A density may be over its limit by as much as sums of floats differ."""


class SingleWeights:
    """Places are weight tensors, choices are indices of ``THRESHOLDS``; 0 leaves a tensor as it is."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        """Read how many weights each threshold takes of each tensor."""
        self._problem, self._rng = problem, rng
        self._limit = problem.limits["density"]
        shares = np.array([spread.below for spread in problem.spreads])
        counts = np.array([spread.weights for spread in problem.spreads])
        self._left = (1 - shares) * counts[:, None] / counts.sum()
        """Of all weights, what is left in each tensor by each threshold, (tensors, thresholds)."""
        self._alike = [[spread.below.index(share) for share in spread.below] for spread in problem.spreads]
        """For each threshold of each tensor the lowest that takes as many weights: one plan, one name."""

    @property
    def places(self) -> int:
        """How many weight tensors there are."""
        return len(self._left)

    @property
    def first_action(self) -> int:
        """The lowest threshold that meets the target where every tensor takes it."""
        return self._lowest(self._left.sum(0))

    def apply_threshold(self, before: Choices, places: Sequence[int], action: int) -> Choices:
        """Return the plan with a threshold for these tensors, a higher one where the later ones could not do enough."""
        decided = sum(self._left[place, before[place]] for place in range(places[0]))
        later = self._left[places[-1] + 1 :, _HIGHEST].sum()
        lowest = self._lowest(decided + self._left[list(places)].sum(0) + later)
        choices = list(before)
        for place in places:
            choices[place] = max(action, lowest)
        return self._named(choices)

    def density(self, plans: Sequence[Choices]) -> Array:
        """Return the share of the weights that plans leave, (plans,)."""
        left: Array = self._left[np.arange(self.places), np.array(plans)].sum(1)
        return left

    def saving_reached(self, plans: Sequence[Choices]) -> Array:
        """Return the share of zero weights over the one that is asked for, (plans,)."""
        return (1 - self.density(plans)) / (1 - self._limit)

    def meets(self, choices: Choices) -> bool:
        """Return whether a plan leaves no more weights than it may."""
        return bool(self.density([choices])[0] <= self._limit + _ROUNDING)

    def propose_new(self, near: Choices, asked: Collection[Choices]) -> Choices:
        """Return a plan within the target with a few thresholds other than ``near``'s; of all asked for, one again."""
        for step in (1, 3, _HIGHEST):
            for _ in range(_TRIES):
                plan = self._within(self._moved(near, step))
                if plan not in asked:
                    return plan
        return next((plan for plan in self._uniform() if plan not in asked), self._within(near))

    def plan(self, choices: Choices) -> PruningPlan:
        """Return the plan: for each tensor the share of its weights that becomes zero; every channel stays."""
        shares = (spread.below[choice] for spread, choice in zip(self._problem.spreads, choices, strict=True))
        levels = (0,) * len(self._problem.space.groups)
        return PruningPlan(levels=levels, criterion=self._problem.criterion, zeros=tuple(shares))

    def choices(self, plan: PruningPlan) -> Choices:
        """Return the thresholds that mean a plan's shares, the lowest of equals."""
        return tuple(
            int(np.abs(np.array(spread.below) - share).argmin())
            for spread, share in zip(self._problem.spreads, plan.zeros, strict=True)
        )

    # ------------------------------------------------------------ helpers

    def _lowest(self, left: Array) -> int:
        """Return the lowest threshold of which so little is left, (thresholds,), that it meets the target."""
        enough = np.flatnonzero(left <= self._limit + _ROUNDING)
        return int(enough[0]) if len(enough) else _HIGHEST

    def _moved(self, near: Choices, step: int) -> Choices:
        """Return a plan with up to three thresholds moved by up to ``step``."""
        changed = np.array(near)
        count = int(self._rng.integers(1, min(3, self.places) + 1))
        for place in self._rng.choice(self.places, count, replace=False):
            changed[place] = np.clip(changed[place] + self._rng.integers(-step, step + 1), 0, _HIGHEST)
        return tuple(changed.tolist())

    def _within(self, choices: Choices) -> Choices:
        """Return the plan with thresholds raised, tensors drawn at random, until it meets the target or all are."""
        raised = list(choices)
        while not self.meets(tuple(raised)) and min(raised) < _HIGHEST:
            place = int(self._rng.choice([p for p, choice in enumerate(raised) if choice < _HIGHEST]))
            raised[place] += 1
        return self._named(raised)

    def _uniform(self) -> Iterable[Choices]:
        """Return the plans that take one threshold everywhere and meet the target."""
        return (self._named((choice,) * self.places) for choice in range(self.first_action, _HIGHEST + 1))

    def _named(self, choices: Sequence[int]) -> Choices:
        return tuple(alike[choice] for alike, choice in zip(self._alike, choices, strict=True))
