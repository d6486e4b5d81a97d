"""What a plan will cost on this board: savings of single cuts as measured, added up, corrected by whole candidates.

A single cut's saving (one group at one level, everything else whole) is measured by a probe. Savings add up well where
groups do not overlap; what is left is corrected by a straight line fitted to the candidates measured so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.records import LEVELS, Group, SearchSpace
from pipeline.targets import Metric

Array = NDArray[np.float64]

_PRIOR_WEIGHT = 4.0
"""The line "cost as added up" counts as this many candidates."""
_PRIOR_ERROR = 0.03


def signature(group: Group) -> tuple[object, ...]:
    """Return what makes two groups cost the same: one probe serves all groups with an equal signature."""
    return (group.channels, group.macs, group.parameters, group.kernel, group.stride, group.bypass is not None)


def size_savings(space: SearchSpace) -> Array:
    """Return the share of the base model's parameters that each group saves at each level, (groups, levels)."""
    return np.array(
        [
            [
                (1 - g.kept[lv] / g.channels) * g.parameters / space.parameters if lv in g.kept else np.nan
                for lv in LEVELS
            ]
            for g in space.groups
        ]
    )


def owners(space: SearchSpace) -> NDArray[np.int64]:
    """Return for each group the first group of its block, whose level decides whether the block goes; else itself."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(g.bypass, i) if g.bypass else i for i, g in enumerate(space.groups)])


@dataclass(slots=True)
class CostTable:
    """Savings of one metric, (groups, levels) as shares of the base model's figure; nan where a level is not legal."""

    savings: Array
    owner: NDArray[np.int64]
    seen: list[tuple[float, float]] = field(default_factory=list)
    """Pairs of added-up and measured cost."""
    offset: float = 0.0
    slope: float = 1.0
    error: float = _PRIOR_ERROR

    def predict(self, levels: NDArray[np.int64]) -> Array:
        """Return the predicted cost relative to the base, (plans,), of level indices (plans, groups)."""
        return self.offset + self.slope * self._added_up(levels)

    def learn(self, levels: Sequence[int], measured: float) -> None:
        """Correct the line by one measured candidate."""
        self.seen.append((float(self._added_up(np.array([levels]))[0]), measured))
        x, y = np.array(self.seen).T
        # Least squares with the identity as prior: two pseudo-candidates, the base itself and a half-sized network.
        design = np.stack([np.ones_like(x), x], 1)
        prior = np.array([[1.0, 1.0], [1.0, 0.5]]) * np.sqrt(_PRIOR_WEIGHT / 2)
        answers = np.array([1.0, 0.5]) * np.sqrt(_PRIOR_WEIGHT / 2)
        (self.offset, self.slope), *_ = np.linalg.lstsq(
            np.vstack([design, prior]), np.concatenate([y, answers]), rcond=None
        )
        residuals = y - (self.offset + self.slope * x)
        total = float((residuals**2).sum()) + _PRIOR_WEIGHT * _PRIOR_ERROR**2
        self.error = float(np.sqrt(total / (len(y) + _PRIOR_WEIGHT)))

    def _added_up(self, levels: NDArray[np.int64]) -> Array:
        gone = levels == len(LEVELS) - 1
        rows = np.arange(levels.shape[1])
        saved = self.savings[rows, levels]
        # The block's first group carries the whole block's saving; the others of a removed block add nothing.
        follows = (self.owner != rows) & gone[:, self.owner]
        total: Array = 1 - np.where(follows, 0.0, saved).sum(1)
        return total


@dataclass(slots=True)
class CostModel:
    """All metrics of one board; latency always, energy and power where a sensor measures, size by counting."""

    tables: Mapping[Metric, CostTable]

    def predict(self, levels: NDArray[np.int64]) -> dict[Metric, Array]:
        """Return each metric's predicted cost relative to the base, (plans,), of level indices (plans, groups)."""
        return {metric: table.predict(levels) for metric, table in self.tables.items()}

    def learn(self, levels: Sequence[int], measured: Mapping[Metric, float]) -> None:
        """Correct each metric's table by one measured candidate."""
        for metric, value in measured.items():
            if metric in self.tables:
                self.tables[metric].learn(levels, value)
