"""Confidence intervals of autocorrelated samples.

Successive runs on one board are autocorrelated: clocks, caches and the governor change slowly. The textbook's
sd/sqrt(n) over single runs is then several times too small. So intervals come from *blocks* of consecutive runs
(batch means: Law & Kelton, Simulation Modeling and Analysis, section 9.5.3): one figure a block, Student's t over the
blocks, and blocks that are still correlated count for fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Interval

NORMAL_95 = 1.96
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""

Floats = NDArray[np.float64]

GAP_CYCLES = 5.0
"""A time without a power sample that is longer than so many of the sensor's cycles is a gap."""

FEWEST_BLOCKS = 5
"""Fewer blocks tell too little of their own spread."""

FEWEST_CORRELATED = 8
"""Fewer blocks tell nothing of their correlation, and count as independent."""

HIGHEST_LAG1 = 0.75
LOWEST_LAG1 = -0.3
LAG1_ERRORS = 0.8
"""Neighbouring blocks count as correlated as they may well be, within these bounds: the measured lag-1 correlation, its
bias taken off, and 0.8 of its standard errors more.

The three are chosen so that 95 % intervals hold what they promise. Of first-order autoregressive series whose blocks
correlate by 0, 0.2, 0.4 and 0.6 with the next, the intervals hold the mean in 97, 97, 96 and 96 % with 20 blocks, in
95 to 97 % with 10, 40 and 60, and in 94, 92, 84 and 74 % with 5, which do not show it. Ended as soon as they are narrow
enough, at the default settings, 93 to 97 % do. ``benchmarks/block_intervals.py`` prints these figures.
"""

FEW_PAIRS_WIDER = 1.1
"""The interval of fewer than ``FEWEST_CORRELATED`` pairs of blocks is so much wider.

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
    """Return half the confidence interval of the mean of one figure a block, whose neighbours may be alike.

    Student's t over as many blocks as would tell as much independently. Fewer than two blocks carry no information
    about their spread: infinite. The agent stops by the same rule (``device_agents.stopping``).

    >>> round(half_width(np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])), 3)
    1.15
    >>> half_width(np.array([1.0]))
    inf
    """
    if len(figures) < 2:
        return math.inf
    count = effective_count(figures)
    return student_t(count - 1, confidence) * float(figures.std(ddof=1)) / math.sqrt(count)


def student_t(freedom: float | None, confidence: float = 0.95) -> float:
    """Return how many standard errors on either side of a mean hold the truth; None is infinite freedom.

    >>> round(student_t(4), 3), round(student_t(None), 3)
    (2.776, 1.96)
    """
    from scipy.special import stdtrit  # a third of a second, which commands that measure nothing do without

    return float(stdtrit(math.inf if freedom is None else freedom, 0.5 + confidence / 2))


def welch(variances: Sequence[float], freedoms: Sequence[float | None]) -> float | None:
    """Return the degrees of freedom of a sum of independent estimates, by Welch and Satterthwaite; None: infinite.

    >>> welch([1.0, 1.0], [4, 4]), welch([1.0, 0.0], [4, 9]), welch([1.0], [None])
    (8.0, 4.0, None)
    """
    known = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True) if freedom)
    return max(1.0, sum(variances) ** 2 / known) if known > 0 else None


def effective_count(figures: Floats, regressors: int = 1) -> float:
    """Return how many independent blocks would tell as much of the mean as these correlated ones.

    n (1 - r) / (1 + r), as for a first-order autoregressive series. The lag-1 correlation r of n blocks comes out too
    low, by (1 + 4r)/n about their mean (Marriott and Pope, Biometrika 41, 1954) and, by simulation, by (2 + 5r)/n about
    a straight line; that is made up for, and its uncertainty by ``LAG1_ERRORS``. Two degrees of freedom stay at least.

    Args:
        figures: one a block, or what is left of them beside a straight line.
        regressors: what was fitted to them: 1 a mean, 2 a straight line.

    >>> effective_count(np.array([1.0, 2.0, 3.0])), round(effective_count(np.arange(20.0)), 9)
    (3.0, 3.0)
    """
    count = len(figures)
    if count < FEWEST_CORRELATED:
        return float(count)
    unbiased = (count * lag1(figures) + regressors) / (count - 3 - regressors)
    correlation = min(max(unbiased + LAG1_ERRORS / math.sqrt(count), LOWEST_LAG1), HIGHEST_LAG1)
    return max(regressors + 2.0, count * (1 - correlation) / (1 + correlation))


def mean_interval(figures: Floats) -> Interval:
    """Return the mean of one figure a block with its 95 % interval.

    >>> mean_interval(np.array([2.0, 2.0, 2.0]))
    Interval(value=2.0, low=2.0, high=2.0)
    """
    return around(float(figures.mean()), half_width(figures), figures, effective_count(figures) - 1)


def half_width_beside_drift(figures: Floats) -> float:
    """Return half the 95 % interval of the mean of figures that may rise or fall steadily, as a warming board's power.

    A steady drift shifts no mean over the window that it is the mean of, so the straight line through the blocks is
    taken off before their spread and their correlation are taken: two degrees of freedom go with it. Too few blocks
    for that: as they are.

    >>> round(half_width_beside_drift(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), 9)
    0.0
    """
    count = len(figures)
    if count < FEWEST_BLOCKS:
        return half_width(figures)
    place = np.arange(count) - (count - 1) / 2
    residual = figures - figures.mean() - place * float(place @ figures) / float(place @ place)
    alike = effective_count(residual, regressors=2)
    return student_t(alike - 2) * math.sqrt(float(residual @ residual) / (count - 2) / alike)


def half_width_of_sum(shares: Sequence[float], groups: Sequence[Floats]) -> float:
    """Return half the 95 % interval of the weighted sum of several groups' means, whose blocks spread alike.

    At least one group has two blocks.

    >>> round(half_width_of_sum([0.5, 0.5], [np.array([1.0, 2.0]), np.array([5.0, 6.0])]), 3)
    1.521
    """
    free = sum(len(group) - 1 for group in groups)
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / free
    scale = sum(share**2 / len(group) for share, group in zip(shares, groups, strict=True))
    return student_t(free) * math.sqrt(variance * scale)


def median_interval(blocks: Sequence[Floats]) -> Interval:
    """Return the median of all samples with its 95 % interval, from the spread of the blocks' medians.

    >>> median_interval([np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 9.0])])
    Interval(value=2.0, low=2.0, high=2.0)
    """
    samples = np.concatenate(blocks)
    medians = np.array([np.median(b) for b in blocks])
    return around(float(np.median(samples)), half_width(medians), samples, effective_count(medians) - 1)


def ratio_interval(candidate: Sequence[Floats], reference: Sequence[Floats], confidence: float = 0.95) -> Interval:
    """Return candidate over reference, from pairs of blocks that ran next to each other, with its confidence interval.

    What slows the board down for a while slows both blocks of a pair and falls out. The mean is taken of logarithms,
    so that a over b and b over a agree.

    >>> twice = [np.array([2.0, 2.0]), np.array([4.0, 4.0])]
    >>> once = [np.array([1.0, 1.0]), np.array([2.0, 2.0])]
    >>> ratio_interval(twice, once).value
    2.0
    """
    pairs = min(len(candidate), len(reference))
    logs = np.array([math.log(np.median(candidate[i]) / np.median(reference[i])) for i in range(pairs)])
    return ratio_of_logs(logs, confidence)


def ratio_of_logs(logs: Floats, confidence: float = 0.95) -> Interval:
    """Return the ratio whose logarithm was found once a pair of blocks, with its confidence interval.

    One pair tells nothing of their spread. An interval that no float holds ends at infinity.

    >>> ratio_of_logs(np.log([2.0, 2.0, 2.0]))
    Interval(value=2.0, low=2.0, high=2.0)
    >>> ratio_of_logs(np.log([2.0]))
    Interval(value=2.0, low=0.0, high=4.0)
    """
    middle, half = float(logs.mean()), half_width(logs, confidence)
    if len(logs) < FEWEST_CORRELATED:
        half *= FEW_PAIRS_WIDER
    if math.isinf(half):
        return Interval.of_unknown_width(_rounded(math.exp(middle)))
    with np.errstate(over="ignore"):
        low, value, high = (_rounded(float(np.exp(end))) for end in (middle - half, middle, middle + half))
    return Interval(value, low, high, effective_count(logs) - 1)


def _rounded(figure: float) -> float:
    """Return what a logarithm and its exponential leave of a figure, without the last bit that they may change."""
    return float(f"{figure:.15g}")


def differ(one: Interval, other: Interval) -> bool:
    """Return whether two figures differ at the 5 % level, by their 95 % intervals.

    The squared standard errors of two independent figures add up; two intervals that overlap a little may well differ
    (Schenker and Gentleman, The American Statistician 55, 2001). Degrees of freedom by Welch.

    >>> one = Interval(1.0, 0.9, 1.1)
    >>> differ(one, Interval(1.15, 1.05, 1.25)), differ(one, Interval(1.1, 1.0, 1.2))
    (True, False)
    """
    freedoms = [one.freedom, other.freedom]
    squares = [(figure.half_width / student_t(figure.freedom)) ** 2 for figure in (one, other)]
    return abs(one.value - other.value) > student_t(welch(squares, freedoms)) * math.sqrt(sum(squares))


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


def around(value: float, half: float, samples: Floats, freedom: float | None = None) -> Interval:
    """Return the interval around ``value``; where its width is unknown, the range of the samples."""
    if math.isinf(half):
        return Interval(value, float(samples.min()), float(samples.max()))
    return Interval(value, value - half, value + half, freedom)
