"""Reachability: the cost of a partial plan with all later groups cut as deep as allowed.

By the straight line that is the lowest cost within reach: more taken never costs more. What candidates have taught
beyond the line is known of whole plans alone, so this completion is priced as the plan that it is, departure included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.cost_model import CostTable
from pipeline.records import LEVELS

Array = NDArray[np.float64]

_REMOVED = len(LEVELS) - 1


class Reach:
    """Costs within reach of plans that are decided up to a step, by one metric's table.

    Groups are decided in order, and a block's first group decides whether the block goes, before all that is in it. So
    the groups still open are of two kinds: those of blocks that are not begun, which take what the better of removing
    and cutting takes, and what is left of a block that is begun, which takes what cutting takes unless that is gone
    already. A block within another is a part of that one.
    """

    def __init__(self, table: CostTable) -> None:
        """Work out what open groups take; the table's line may change later, its savings not."""
        self._table = table
        groups = len(table.savings)
        rows = np.arange(groups)
        self._parent = table.owner if table.parent is None else table.parent
        follows = table.owner != rows
        self._inside = self._parent != rows
        legal = ~np.isnan(table.savings)
        taken = table.shared.taken
        cut = np.array([one[:_REMOVED][ok[:_REMOVED]].max(0) for one, ok in zip(taken, legal, strict=True)])
        most = cut.copy()
        """By group: what it takes at most, and where it is the first of a block, the block with all that is in it."""
        self._deepest = np.array([int(np.flatnonzero(ok[:_REMOVED])[-1]) for ok in legal])
        """By group: the level that takes most, where what is around it stays."""
        for group in reversed(range(groups)):
            if not follows[group] and legal[group, _REMOVED]:
                if table.shared.saved(taken[group, _REMOVED]) >= table.shared.saved(most[group]):
                    self._deepest[group] = _REMOVED
                most[group] = np.maximum(most[group], taken[group, _REMOVED])
            if self._inside[group]:
                most[self._parent[group]] += most[group]
        blocks = np.where(self._inside[:, None, None], 0.0, most)
        self._not_begun: Array = np.concatenate([np.cumsum(blocks[::-1], 0)[::-1], np.zeros_like(blocks[:1])])
        """By step: what blocks that begin there or later take of each layer at most, (groups + 1, 2, layers)."""
        self._followers: dict[int, list[tuple[int, Array]]] = {}
        """First group of a block → its followers, and the blocks in it, and what each takes at most."""
        for group in rows[self._inside]:
            self._followers.setdefault(int(self._parent[group]), []).append((int(group), most[group]))

        self._around = _around(self._parent)

    def lowest(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return the lowest cost by the line, each level chosen at ``step``, (plans, levels), legal or not."""
        table = self._table
        taken = table.taken(levels[:, :step]) + self._not_begun[step + 1]
        for first in self._followers:
            if first < step:
                stays = levels[:, first] != _REMOVED
                taken[stays] += self._cut_after(first, step + 1)
        here = np.broadcast_to(table.shared.taken[step], (len(levels), *table.shared.taken[step].shape)).copy()
        if self._inside[step]:
            here[levels[:, self._parent[step]] == _REMOVED] = 0.0
        if step in self._followers:
            here[:, :_REMOVED] += self._cut_after(step, step + 1)
        return table.cost(taken[:, None] + here)

    def completed(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return the predicted costs of plans completed so, each level chosen at ``step``, (plans, levels)."""
        return self.lowest(levels, step) + self._departure(levels, step)

    def _departure(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return how far plans completed so are expected off the line, (plans, levels)."""
        at, later = self._around[step], self._deepest
        rest = np.concatenate([levels[:, :step], np.broadcast_to(later[step:], (len(levels), len(later) - step))], 1)
        own = np.broadcast_to(np.where(at, later, 0), (len(LEVELS), len(later))).copy()
        own[:, step] = np.arange(len(LEVELS))
        return self._table.departure_of_pairs(np.where(at, 0, rest), own, at)

    def _cut_after(self, first: int, step: int) -> Array:
        """Return what the followers from ``step`` on take at most in a block that stays, (2, layers)."""
        later = [cut for group, cut in self._followers[first] if group >= step]
        taken: Array = np.sum([np.zeros_like(self._not_begun[0]), *later], axis=0)
        return taken


def _around(parent: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each group which groups are it or within what goes with it, (groups, groups).

    >>> _around(np.array([0, 0, 1, 3])).astype(int).tolist()
    [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    found = np.eye(len(parent), dtype=bool)
    for group, around in enumerate(parent):  # what is around a group stands before it
        found[:, group] |= found[:, around]
    return found
