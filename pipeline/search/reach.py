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

    Groups are decided in order, and a block's first group decides whether the block goes. So the groups still open are
    of two kinds: those of blocks that are not begun, which take what the better of removing and cutting takes, and
    followers in a block that is begun, which take what cutting takes unless the block is gone already.
    """

    def __init__(self, table: CostTable) -> None:
        """Work out what open groups take; the table's line may change later, its savings not."""
        self._table = table
        owner, groups = table.owner, len(table.savings)
        rows = np.arange(groups)
        self._follows = owner != rows
        legal = ~np.isnan(table.savings)
        taken = table.shared.taken
        cut = np.array([one[:_REMOVED][ok[:_REMOVED]].max(0) for one, ok in zip(taken, legal, strict=True)])
        blocks = np.array([cut[owner == first].sum(0) for first in range(groups)])
        blocks = np.where(legal[:, _REMOVED, None, None], np.maximum(blocks, taken[:, _REMOVED]), blocks)
        blocks[self._follows] = 0.0
        self._not_begun: Array = np.concatenate([np.cumsum(blocks[::-1], 0)[::-1], np.zeros_like(blocks[:1])])
        """By step: what blocks that begin there or later take of each layer at most, (groups + 1, 2, layers)."""
        self._followers: dict[int, list[tuple[int, Array]]] = {}
        """First group of a block → its followers and what cutting each takes."""
        for group in rows[self._follows]:
            self._followers.setdefault(int(owner[group]), []).append((int(group), cut[group]))

    def lowest(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return the lowest cost within reach, each level chosen at ``step``, (plans, levels), legal or not."""
        table = self._table
        taken = table.taken(levels[:, :step]) + self._not_begun[step + 1]
        for first in self._followers:
            if first < step:
                stays = levels[:, first] != _REMOVED
                taken[stays] += self._cut_after(first, step + 1)
        here = np.broadcast_to(table.shared.taken[step], (len(levels), *table.shared.taken[step].shape)).copy()
        if self._follows[step]:
            here[levels[:, table.owner[step]] == _REMOVED] = 0.0
        elif step in self._followers:
            here[:, :_REMOVED] += self._cut_after(step, step + 1)
        return table.cost(taken[:, None] + here)

    def _cut_after(self, first: int, step: int) -> Array:
        """Return what the followers from ``step`` on take at most in a block that stays, (2, layers)."""
        later = [cut for group, cut in self._followers[first] if group >= step]
        taken: Array = np.sum([np.zeros_like(self._not_begun[0]), *later], axis=0)
        return taken
