"""How sure a measured figure is: percentiles, intervals from batch means, paired ratios, energy from power samples.

Single runs on one board lean on their neighbours: clocks, caches and the governor change slowly. The textbook's
sd/sqrt(n) over single runs is then several times too small. So intervals come from *blocks* of consecutive runs
(batch means: Law & Kelton, Simulation Modeling and Analysis, section 9.5.3): one figure a block, Student's t over the
blocks, and blocks that still lean on each other are merged first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.records import Interval

Floats = NDArray[np.float64]

GAP_CYCLES = 5.0
"""A time without a power sample that is longer than so many of the sensor's cycles is a gap."""

FEWEST_BLOCKS = 5
"""Merging stops here: with fewer, Student's t grows faster than the bias shrinks."""

LEANING = 0.2
"""Lag-1 correlation above which neighbouring blocks are merged.

On simulated series whose runs correlate by 0.5 and 0.9, 20 to 100 blocks of 25 runs, 92 to 95 % of the intervals then
hold the true median; sd/sqrt(n) over single runs manages 80 and 42 %.
"""

FEW_PAIRS = 8
FEW_PAIRS_WIDER = 1.1
"""Fewer pairs of blocks than 8 tell nothing of how alike neighbours are, and their interval is so much wider.

In turns (candidate, reference, reference, candidate, …) noise that decays exponentially, fast or slowly, makes the
standard error of the pairs' mean up to 1.21 times what their spread says. 1.1 is the middle: of five pairs' intervals
94 to 96 % then hold the true ratio, whichever noise it is.
"""


def percentiles(samples: Floats, ranks: Sequence[float]) -> list[float]:
    """Return percentiles of all samples, nothing trimmed, by linear interpolation between order statistics.

    >>> percentiles(np.array([1.0, 2.0, 3.0, 4.0]), [50, 90])
    [2.5, 3.7]
    """
    return [float(p) for p in np.percentile(samples, list(ranks))]


def lag1(figures: Floats) -> float:
    """Return the correlation of each block's figure with the next one's.

    >>> round(lag1(np.array([1.0, 2.0, 3.0, 4.0, 5.0])), 3)
    0.4
    >>> lag1(np.array([1.0, 1.0, 1.0]))
    0.0
    """
    centred = figures - figures.mean()
    total = float(centred @ centred)
    return float(centred[:-1] @ centred[1:]) / total if total > 0 else 0.0


def half_width(figures: Floats, confidence: float = 0.95) -> float:
    """Return half the confidence interval of the mean of one figure a block.

    Neighbours are merged pairwise while they lean on each other and enough blocks remain. Fewer than two blocks carry
    no information about their spread: infinite.

    >>> round(half_width(np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])), 3)
    1.15
    >>> half_width(np.array([1.0]))
    inf
    """
    while len(figures) >= 2 * FEWEST_BLOCKS and lag1(figures) > LEANING:
        even = len(figures) // 2 * 2
        figures = figures[-even:].reshape(-1, 2).mean(axis=1)
    count = len(figures)
    if count < 2:
        return math.inf
    t = float(stdtrit(count - 1, 0.5 + confidence / 2))
    return t * float(figures.std(ddof=1)) / math.sqrt(count)


def mean_interval(figures: Floats) -> Interval:
    """Return the mean of one figure a block with its 95 % interval.

    >>> mean_interval(np.array([2.0, 2.0, 2.0]))
    Interval(value=2.0, low=2.0, high=2.0)
    """
    return around(float(figures.mean()), half_width(figures), figures)


def half_width_beside_drift(figures: Floats) -> float:
    """Return half the 95 % interval of the mean of figures that may rise or fall steadily, as a warming board's power.

    A steady drift shifts no mean over the window that it is the mean of, so the straight line through the blocks is
    taken off before their spread is taken: two degrees of freedom go with it. Too few blocks for that: as they are.

    >>> round(half_width_beside_drift(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), 9)
    0.0
    """
    count = len(figures)
    if count < FEWEST_BLOCKS:
        return half_width(figures)
    place = np.arange(count) - (count - 1) / 2
    residual = figures - figures.mean() - place * float(place @ figures) / float(place @ place)
    if count >= 2 * FEWEST_BLOCKS and lag1(residual) > LEANING:
        return half_width_beside_drift(figures[-(count // 2 * 2) :].reshape(-1, 2).mean(axis=1))
    return float(stdtrit(count - 2, 0.975)) * math.sqrt(float(residual @ residual) / (count - 2) / count)


def half_width_of_sum(shares: Sequence[float], groups: Sequence[Floats]) -> float:
    """Return half the 95 % interval of the weighted sum of several groups' means, whose blocks spread alike.

    At least one group has two blocks.

    >>> round(half_width_of_sum([0.5, 0.5], [np.array([1.0, 2.0]), np.array([5.0, 6.0])]), 3)
    1.521
    """
    free = sum(len(group) - 1 for group in groups)
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / free
    scale = sum(share**2 / len(group) for share, group in zip(shares, groups, strict=True))
    return float(stdtrit(free, 0.975)) * math.sqrt(variance * scale)


def median_interval(blocks: Sequence[Floats]) -> Interval:
    """Return the median of all samples with its 95 % interval, from the spread of the blocks' medians.

    >>> median_interval([np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 9.0])])
    Interval(value=2.0, low=2.0, high=2.0)
    """
    samples = np.concatenate(blocks)
    medians = np.array([np.median(b) for b in blocks])
    return around(float(np.median(samples)), half_width(medians), samples)


def ratio_interval(candidate: Sequence[Floats], reference: Sequence[Floats]) -> Interval:
    """Return candidate over reference, from pairs of blocks that ran next to each other, with its 95 % interval.

    What slows the board down for a while slows both blocks of a pair and falls out. The mean is taken of logarithms,
    so that a over b and b over a agree.

    >>> twice = [np.array([2.0, 2.0]), np.array([4.0, 4.0])]
    >>> once = [np.array([1.0, 1.0]), np.array([2.0, 2.0])]
    >>> ratio_interval(twice, once).value
    2.0
    """
    pairs = min(len(candidate), len(reference))
    return ratio_of_logs(np.array([math.log(np.median(candidate[i]) / np.median(reference[i])) for i in range(pairs)]))


def ratio_of_logs(logs: Floats) -> Interval:
    """Return the ratio whose logarithm was found once a pair of blocks, with its 95 % interval.

    One pair tells nothing of their spread. An interval that no float holds ends at infinity.

    >>> ratio_of_logs(np.log([2.0, 2.0, 2.0]))
    Interval(value=2.0, low=2.0, high=2.0)
    >>> ratio_of_logs(np.log([2.0]))
    Interval(value=2.0, low=0.0, high=4.0)
    """
    middle, half = float(logs.mean()), half_width(logs) * (FEW_PAIRS_WIDER if len(logs) < FEW_PAIRS else 1.0)
    if math.isinf(half):
        return Interval.of_unknown_width(_rounded(math.exp(middle)))
    with np.errstate(over="ignore"):
        low, value, high = (_rounded(float(np.exp(end))) for end in (middle - half, middle, middle + half))
    return Interval(value, low, high)


def _rounded(figure: float) -> float:
    """Return what a logarithm and its exponential leave of a figure, without the last bit that they may change."""
    return float(f"{figure:.15g}")


def differ(one: Interval, other: Interval) -> bool:
    """Return whether two figures differ at the 5 % level, by their 95 % intervals.

    The difference of two independent figures has the root of the sum of their squared half-widths as its own; two
    intervals that overlap a little may well differ (Schenker and Gentleman, The American Statistician 55, 2001).

    >>> one = Interval(1.0, 0.9, 1.1)
    >>> differ(one, Interval(1.15, 1.05, 1.25)), differ(one, Interval(1.1, 1.0, 1.2))
    (True, False)
    """
    return abs(one.value - other.value) > math.hypot(one.half_width, other.half_width)


@dataclass(frozen=True, slots=True)
class PowerTrace:
    """Power samples, seconds of the device's monotonic clock and watts, in the order of time."""

    t_s: Floats
    w: Floats

    def __post_init__(self) -> None:
        """Raise ValueError when time stands still or runs backwards."""
        if len(self.t_s) != len(self.w) or (np.diff(self.t_s) <= 0).any():
            raise ValueError("power samples are not in the order of time")

    def covers(self, start_s: float, end_s: float) -> bool:
        """Tell whether samples stand on both sides of the window, so that its edges can be interpolated."""
        return len(self.t_s) > 1 and bool(self.t_s[0] <= start_s < end_s <= self.t_s[-1])

    def inside(self, start_s: float, end_s: float) -> int:
        """Return how many samples fall into the window."""
        return int(np.searchsorted(self.t_s, end_s, "right") - np.searchsorted(self.t_s, start_s, "left"))

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Return the energy of a window: trapezoids, with the power at both edges interpolated.

        Raises:
            ValueError: the samples do not reach over the window; extrapolated energy would be invented.

        >>> PowerTrace(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 3.0])).energy_j(0.5, 2.0)
        4.25
        """
        if not self.covers(start_s, end_s):
            raise ValueError(f"no power samples around the window {start_s:.3f} to {end_s:.3f} s")
        within = self._between(start_s, end_s)
        first_w, last_w = np.interp([start_s, end_s], self.t_s, self.w)
        t = np.concatenate(([start_s], self.t_s[within], [end_s]))
        return float(np.trapezoid(np.concatenate(([first_w], self.w[within], [last_w])), t))

    def mean_w(self, start_s: float, end_s: float) -> float:
        """Return the mean power of a window; raises like ``energy_j``."""
        return self.energy_j(start_s, end_s) / (end_s - start_s)

    def gap_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time without a sample that touches the window."""
        within = self._between(start_s, end_s)
        touching = np.diff(self.t_s[max(0, within.start - 1) : within.stop + 1])
        return float(touching.max()) if len(touching) else math.inf

    def _between(self, start_s: float, end_s: float) -> slice:
        """Return where the samples inside of a window lie, its edges left out; found by halving."""
        return slice(int(np.searchsorted(self.t_s, start_s, "right")), int(np.searchsorted(self.t_s, end_s, "left")))

    @property
    def cycle_s(self) -> float:
        """The usual time between two samples."""
        return float(np.median(np.diff(self.t_s)))


def around(value: float, half: float, samples: Floats) -> Interval:
    """Return the interval around ``value``; where its width is unknown, the range of the samples."""
    if math.isinf(half):
        return Interval(value, float(samples.min()), float(samples.max()))
    return Interval(value, value - half, value + half)
