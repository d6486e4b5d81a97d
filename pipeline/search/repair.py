"""Plan repair: the nearest plan that meets the targets and was not asked for yet.

A plan that is predicted to meet the relaxed limits (``planner``) stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pipeline.records import LEVELS
from pipeline.search.planner import REMOVE, Array, Indices, Planner, repair_to_feasible
from pipeline.search.random_plans import draw, unasked

Levels = tuple[int, ...]
"""A plan's level indices."""

_TRIES = 4
"""Neighbours tried at each distance."""
_DRAWN = 50
"""Plans drawn at random where no neighbour is new."""


class Repair:
    """Repair of infeasible plans; what has to be chosen on the way is drawn at random."""

    def __init__(self, planner: Planner, rng: np.random.Generator) -> None:
        """Read which levels the groups have, and which groups make a block."""
        self.planner = planner
        self._rng = rng
        groups = planner.problem.space.groups
        self.options = [[LEVELS.index(level) for level in group.levels] for group in groups]
        """Each group's legal level indices, ascending."""
        self.chains = [chain(planner.owner, planner.parent, group) for group in range(len(groups))]
        """For each group the first groups of its block and of those around it, in this order; itself outside of all."""
        self.blocks = [[j for j, others in enumerate(self.chains) if own[0] in others] for own in self.chains]
        """For each group the groups that go when its block does, in order."""

    # ------------------------------------------------------------ one plan

    def with_level(self, levels: Sequence[int], group: int, level: int) -> Levels:
        """Return a plan with one group's level changed.

        A block goes whole. It comes back with nothing cut, but without the blocks within it, and so do those around it.
        """
        changed = list(levels)
        if level == REMOVE:
            for other in self.blocks[group]:
                changed[other] = REMOVE
        elif levels[group] == REMOVE:
            back = {first for first in self.chains[group] if levels[first] == REMOVE}
            for other, own in enumerate(self.chains):
                changed[other] = 0 if own[0] in back else changed[other]
        changed[group] = level
        return tuple(changed)

    def round_to_legal(self, wanted: Sequence[float]) -> Levels:
        """Return the nearest level that each group has, the shallower of two; a block's first group says if it goes."""
        levels = [min(own, key=lambda o: abs(o - w)) for own, w in zip(self.options, wanted, strict=True)]
        for group, own in enumerate(self.chains):
            if any(levels[first] == REMOVE for first in own):
                levels[group] = REMOVE
            elif levels[group] == REMOVE:
                levels[group] = self.options[group][-2]
        return tuple(levels)

    def make_feasible(self, wanted: Sequence[float]) -> Levels:
        """Return a feasible plan near ``wanted``: groups drawn at random are cut deeper until it meets the targets.

        One that is feasible stays as it is. The masks alone would do, but they decide group by group: the last ones
        would pay for what the first ones wish.
        """
        levels = self.round_to_legal(wanted)
        if self.planner.can_meet(np.array([levels]))[0]:
            return levels
        excess = self.excess([levels])[0]
        while excess > 0 and (neighbours := self._neighbours(levels, range(len(levels)), deeper=True)):
            after = self.excess(list(neighbours.values()))
            better = np.flatnonzero(after < excess)
            pick = int(self._rng.choice(better if len(better) else len(neighbours)))
            levels, excess = list(neighbours.values())[pick], after[pick]
        return tuple(repair_to_feasible(self.planner, np.array([levels]))[0].tolist())

    def undo_surplus_cuts(self, plan: Sequence[int]) -> Levels:
        """Return a plan with nothing cut that the targets do not ask for: groups drawn at random are cut less again.

        Without targets it stays as it is.
        """
        levels: Levels = tuple(plan)
        open_groups: Collection[int] = range(len(levels))
        limited = self.planner.problem.limits and self.excess([levels])[0] == 0
        while limited and (neighbours := self._neighbours(levels, open_groups, deeper=False)):
            fits = self.excess(list(neighbours.values())) == 0
            open_groups = [group for group, fit in zip(neighbours, fits, strict=True) if fit]
            if not open_groups:
                break
            levels = neighbours[int(self._rng.choice(open_groups))]
        return levels

    def excess(self, plans: Sequence[Levels]) -> Array:
        """Return by how much plans are predicted to exceed the targets, relative to them, (plans,)."""
        return self.planner.excess(np.array(plans, dtype=np.int64))

    # ------------------------------------------------------------ a plan that is new

    def propose_new(self, wanted: Sequence[float], asked: Collection[Levels], *, tighten: bool = True) -> Levels:
        """Return the plan for ``wanted``; if it was asked for, one with more and more groups decided anew.

        Where every plan was asked for, it is one of them again.
        """
        for changes in (0, *(2**i for i in range(len(wanted).bit_length()))):
            for _ in range(_TRIES if changes else 1):
                plan = self.make_feasible(self._perturbed(wanted, changes))
                plan = self.undo_surplus_cuts(plan) if tighten else plan
                if plan not in asked:
                    return plan
        drawn = map(tuple, draw(self.planner, _DRAWN, self._rng).tolist())
        return next((plan for plan in drawn if plan not in asked), None) or unasked(self.planner, asked)

    def _perturbed(self, wanted: Sequence[float], changes: int) -> list[float]:
        levels = list(wanted)
        for group in self._rng.choice(len(levels), changes, replace=False).tolist():
            levels[group] = int(self._rng.choice(self.options[group]))
        return levels

    def _neighbours(self, levels: Levels, groups: Collection[int], *, deeper: bool) -> dict[int, Levels]:
        """Return the plans in which one of ``groups`` is cut by one legal level more, or less."""
        neighbours = {}
        for group in groups:
            own = self.options[group]
            place = own.index(levels[group]) + (1 if deeper else -1)
            if 0 <= place < len(own):
                neighbours[group] = self.with_level(levels, group, own[place])
        return neighbours


def chain(owner: Indices, parent: Indices, group: int) -> list[int]:
    """Return the first group of a group's block, and those of the blocks around that, from the inside out.

    >>> chain(np.array([0, 1, 1, 0]), np.array([0, 0, 1, 0]), 2)
    [1, 0]
    """
    found = [int(owner[group])]
    while (around := int(parent[found[-1]])) != found[-1]:
        found.append(around)
    return found
