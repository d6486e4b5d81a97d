"""How low a metric can still get: what the groups that are not decided yet save at most, worked out once."""

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
    of two kinds: those of blocks that are not begun, which save what the better of removing and cutting saves, and
    followers in a block that is begun, which save what cutting saves unless the block is gone already.
    """

    def __init__(self, table: CostTable) -> None:
        """Add up what open groups save; the table's line may change later, its savings not."""
        self._table = table
        self._savings = np.where(np.isnan(table.savings), 0.0, table.savings)
        owner, groups = table.owner, len(table.savings)
        rows = np.arange(groups)
        self._follows = owner != rows
        cut = np.nan_to_num(table.savings[:, :_REMOVED], nan=-np.inf).max(1)
        removed = np.nan_to_num(table.savings[:, _REMOVED], nan=-np.inf)
        block = np.maximum(removed, np.bincount(owner, weights=cut, minlength=groups))
        later = rows >= np.arange(groups + 1)[:, None]
        self._not_begun: Array = (later & ~self._follows) @ block
        """By step: the most that blocks save that begin there or later, (groups + 1,)."""
        members = (owner[:, None] == rows) & self._follows[:, None]
        self._begun: Array = (later * cut) @ members * ~later
        """By step: the most that the open followers save of each first group before it, (groups + 1, groups)."""

    def lowest(self, levels: NDArray[np.int64], step: int) -> Array:
        """Return the lowest cost within reach, each level chosen at ``step``, (plans, levels), legal or not."""
        decided, after = levels[:, :step], step + 1
        saved = self._table.saved(decided).sum(1) + self._not_begun[after]
        saved = saved + (decided != _REMOVED) @ self._begun[after, :step]
        here = np.tile(self._savings[step], (len(levels), 1))
        if self._follows[step]:
            here[levels[:, self._table.owner[step]] == _REMOVED] = 0.0
        else:
            here[:, :_REMOVED] += self._begun[after, step]
        lowest: Array = self._table.offset + self._table.slope * (self._table.whole - saved[:, None] - here)
        return lowest
