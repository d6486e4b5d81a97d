"""Cost at an accuracy: hulls over mixes of a method's settings, and a paired bootstrap over streams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.adaptation.replay import Floats, Outcome

BOOTSTRAPS = 400


def hull(cost: Floats, accuracy: Floats) -> list[int]:
    """Return the settings on the upper convex hull, from the cheapest: what no mix of two others beats.

    >>> hull(np.array([1.0, 2.0, 3.0, 3.0]), np.array([0.5, 0.6, 0.9, 0.8]))
    [0, 2]
    """
    found: list[int] = []
    for i in np.lexsort((-accuracy, cost)).tolist():
        if found and accuracy[i] <= accuracy[found[-1]]:
            continue
        while len(found) > 1 and _is_below(found[-2], found[-1], i, cost, accuracy):
            found.pop()
        found.append(i)
    return found


def hull_of(outcome: Outcome) -> list[int]:
    """Return the settings on the hull of means over all streams."""
    return hull(outcome.cost.mean(1), outcome.accuracy.mean(1))


def _is_below(before: int, middle: int, after: int, cost: Floats, accuracy: Floats) -> bool:
    rise = (accuracy[middle] - accuracy[before]) * (cost[after] - cost[before])
    return bool(rise <= (accuracy[after] - accuracy[before]) * (cost[middle] - cost[before]))


def cost_at(cost: Floats, accuracy: Floats, target: float) -> float:
    """Return the least cost at an accuracy, over time-mixes of settings; NaN where none reaches it.

    >>> round(cost_at(np.array([1.0, 3.0]), np.array([0.5, 0.9]), 0.7), 9)
    2.0
    """
    on = hull(cost, accuracy)
    heights = accuracy[on]
    if target > heights[-1] + 1e-12:
        return float("nan")
    return float(np.interp(target, heights, cost[on]))


def mean_cost_at(outcome: Outcome, target: float) -> float:
    """Return the same of means over all streams."""
    return cost_at(outcome.cost.mean(1), outcome.accuracy.mean(1), target)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One method's cost over another's at equal accuracy, with a 95 % bootstrap interval over streams.

    NaN where one of them never gets there.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as a table has it.

        >>> str(Ratio(0.5, 0.4, 0.6)), str(Ratio(float("nan"), 0.0, 0.0))
        ('0.50× [0.40, 0.60]', 'never')
        """
        return f"{self.value:.2f}× [{self.low:.2f}, {self.high:.2f}]" if np.isfinite(self.value) else "never"


def cost_ratio(one: Outcome, other: Outcome, target: Floats, seed: int = 0) -> Ratio:
    """Return the cost of ``one`` over that of ``other`` at an accuracy.

    Streams are drawn for all three alike: they are paired.

    Args:
        one: settings x streams.
        other: the same streams.
        target: the accuracy wanted on each stream; what counts is its mean over those that are drawn.
        seed: of the draws.
    """
    streams = len(target)
    random = np.random.default_rng(seed)
    draws = [np.arange(streams), *(random.integers(0, streams, streams) for _ in range(BOOTSTRAPS))]
    found = np.array([_ratio(one, other, target, drawn) for drawn in draws])
    known = found[1:][np.isfinite(found[1:])]
    if not np.isfinite(found[0]) or len(known) < BOOTSTRAPS // 2:
        return Ratio(float(found[0]), float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Ratio(float(found[0]), float(low), float(high))


def _ratio(one: Outcome, other: Outcome, target: Floats, drawn: NDArray[np.int64]) -> float:
    wanted = float(target[drawn].mean())
    costs = [cost_at(part.cost[:, drawn].mean(1), part.accuracy[:, drawn].mean(1), wanted) for part in (one, other)]
    return costs[0] / costs[1]


def standard_error(values: Floats) -> float:
    """Return that of a mean over streams."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def joined(parts: list[Outcome]) -> Outcome:
    """Return outcomes of the same settings on several sets of streams as one."""
    names = ("accuracy", "cost", "late", "switches", "kept", "escalated")
    return Outcome(**{name: np.concatenate([getattr(one, name) for one in parts], 1) for name in names})


def stacked(parts: list[Outcome]) -> Outcome:
    """Return outcomes of several methods on the same streams as one of all their settings."""
    names = ("accuracy", "cost", "late", "switches", "kept", "escalated")
    return Outcome(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in names})
