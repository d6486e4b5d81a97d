"""How low a metric can still get: what the groups that are not decided yet take of each layer at most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.cost.tables import CostTable
from pipeline.records import LEVELS

Array = NDArray[np.float64]

_REMOVED = len(LEVELS) - 1


class Reach:
    """The lowest costs within reach of plans that are decided up to a step, by one metric's table.

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
        for group in reversed(range(groups)):
            if not follows[group] and legal[group, _REMOVED]:
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

    def lowest(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return the lowest cost within reach, each level chosen at ``step``, (plans, levels), legal or not."""
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

    def _cut_after(self, first: int, step: int) -> Array:
        """Return what the followers from ``step`` on take at most in a block that stays, (2, layers)."""
        later = [cut for group, cut in self._followers[first] if group >= step]
        taken: Array = np.sum([np.zeros_like(self._not_begun[0]), *later], axis=0)
        return taken
