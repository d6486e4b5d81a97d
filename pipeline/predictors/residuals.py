"""Residuals of the cost tables: a linear correction for all plans, and each plan's own departure.

The line is for what is asked of networks that are not decided yet, since it never turns round: more taken never costs
more. A whole plan's departure is a Gaussian process of its levels; it also says how far off a prediction may be. Each
candidate counts by its own measurement's width, and how far past candidates were off scales what is said of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.error_scaling import Surprise
from pipeline.predictors.gaussian_process import CostProcess, Scales
from pipeline.records import LEVELS

Array = NDArray[np.float64]

_PRIOR_WEIGHT = 4.0
"""The line "cost as added up" counts as this many candidates."""
_LOWEST_SLOPE = 0.05
_PRIOR = Scales(linear=0.03, smooth=0.03, noise=0.015)
"""Shares of the base model's figure. A ResNet-20 on a PC, every group cut by a random level: what single cuts promised
was off by 4 % at channels in steps of 16, by 10 % in steps of 4; pairs of measurements spread by 0.7 to 1.5 %."""
_FREEDOM = 4.0
_MOST_SEEN = 400
"""Candidates that departures are learnt from, the latest ones: fitting takes time by their number cubed."""
_REMOVED = len(LEVELS) - 1


@dataclass(frozen=True, slots=True)
class _Seen:
    """One measured candidate; costs are shares of the base model's figure."""

    levels: tuple[int, ...]
    added_up: float
    measured: float
    deviation: float


@dataclass(slots=True)
class Correction:
    """One metric's; costs are shares of the base model's figure."""

    whole: float
    """Cost of the network with nothing cut."""
    offset: float = 0.0
    slope: float = 1.0
    _seen: list[_Seen] = field(default_factory=list)
    surprise: Surprise = field(default_factory=lambda: Surprise(least=1.0))
    """How far candidates were off what was predicted of them."""
    _departures: CostProcess = field(default_factory=lambda: CostProcess(_PRIOR, freedom=_FREEDOM))

    def line(self, added_up: Array) -> Array:
        """Return what costs become that were put together from single cuts, (...,)."""
        return self.offset + self.slope * added_up

    def departure(self, levels: NDArray[np.int64]) -> Array:
        """Return how far plans are expected off the line, (plans,), of level indices (plans, groups)."""
        return self._departures.mean(_features(levels))

    def departure_of_pairs(self, rest: NDArray[np.int64], own: NDArray[np.int64], at: NDArray[np.bool_]) -> Array:
        """Return how far plans put together of two parts are expected off the line, (plans, levels).

        Args:
            rest: level indices (plans, groups), read where ``at`` is False.
            own: (levels, groups), read where it is True.
            at: (groups,).
        """
        return self._departures.mean_of_pairs(_features(rest), _features(own), np.tile(at, 2))

    def deviation(self, levels: NDArray[np.int64]) -> Array:
        """Return the standard deviation of a plan's measured cost from its predicted one, (plans,)."""
        return self._departures.predict(_features(levels))[1] * self.surprise.scale

    def learn(self, levels: Sequence[int], added_up: float, measured: float, deviation: float = 0.0) -> None:
        """Take in one measured candidate; in ``levels`` a removed block's groups are all removed.

        Args:
            deviation: standard deviation of the measurement, as far as it is known.
        """
        plan = _Seen(tuple(levels), added_up, measured, deviation)
        self._be_surprised(plan)
        self._seen = [*self._seen, plan][-_MOST_SEEN:]
        x, y = np.array([seen.added_up for seen in self._seen]), np.array([seen.measured for seen in self._seen])
        self._fit_line(x, y)
        nothing_cut = (0,) * len(levels)  # is known: the base model against itself
        plans = np.array([nothing_cut, *(seen.levels for seen in self._seen)])
        costs = np.array([self.whole, *y]) - self.line(np.array([self.whole, *x]))
        self._departures.fit(_features(plans), costs, np.array([0.0, *(seen.deviation for seen in self._seen)]))

    def _be_surprised(self, plan: _Seen) -> None:
        """Compare a candidate with what was predicted of it; where nothing was learnt yet, that says little."""
        if not self._seen:
            return
        mean, deviation = self._departures.predict(_features(np.array([plan.levels])), plan.deviation)
        self.surprise.note(float((plan.measured - self.line(np.array(plan.added_up)) - mean[0]) / deviation[0]))

    def _fit_line(self, x: Array, y: Array) -> None:
        """Least squares with the identity as prior: two pseudo-candidates, the network and one of half its cost."""
        design = np.stack([np.ones_like(x), x], 1)
        answers = np.array([self.whole, self.whole / 2]) * np.sqrt(_PRIOR_WEIGHT / 2)
        prior = np.stack([np.full(2, np.sqrt(_PRIOR_WEIGHT / 2)), answers], 1)
        (offset, slope), *_ = np.linalg.lstsq(np.vstack([design, prior]), np.concatenate([y, answers]), rcond=None)
        self.offset, self.slope = float(offset), float(slope)
        if self.slope < _LOWEST_SLOPE:  # noise alone: deeper cuts never cost more
            self.slope = _LOWEST_SLOPE
            self.offset = float(np.mean(y - self.slope * x))


def _features(levels: NDArray[np.int64]) -> Array:
    """Return for each group the share that goes and whether its block is gone, (plans, 2 · groups)."""
    return np.concatenate([np.array(LEVELS)[levels] / 100, levels == _REMOVED], 1)
