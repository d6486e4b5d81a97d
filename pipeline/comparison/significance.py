"""Significance tests between groups of runs: Welch's t and ANOVA, Games-Howell, Hedges' g, Holm.

A group is a sample of seeds. Nothing here assumes that groups spread alike: some searches are steadier than others.
One that never varies has no variance to weigh its mean by: it is left out of the ANOVA and of Games and Howell's test.

    Welch's t       Welch, Biometrika 34, 1947; the interval of the difference is its own, too
    Welch's ANOVA   Welch, Biometrika 38, 1951: do any of three or more groups differ?
    Games-Howell    Games and Howell, Journal of Educational Statistics 1, 1976: the post-hoc test of that ANOVA
    Hedges' g       Hedges, Journal of Educational Statistics 6, 1981: the difference in pooled standard deviations,
                    its bias for few seeds taken off; its interval by the noncentral t distribution
    Holm            Scandinavian Journal of Statistics 6, 1979: p adjusted for the number of tests in a family
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammaln, stdtr, stdtrit

from pipeline.records import Interval

_TAIL = 0.025
"""Outside of a 95 % interval, on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A sample's mean, and how sure it is."""

    count: int
    mean: float
    sd: float | None
    """Of the sample, n - 1; None: a single figure has no spread."""
    se: float | None
    """Of the mean."""
    interval: Interval | None
    """Of the mean, 95 %, Student's t."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One group's mean less another's, and whether that could be chance; None: both groups never vary."""

    one: str
    other: str
    difference: Interval
    """95 %, Welch's."""
    t: float | None
    degrees: float | None
    """Of freedom."""
    p: float | None
    """Welch's t-test, two-sided."""
    p_holm: float | None = None
    """Adjusted for all tests of a family; None as well where the pair belongs to none."""
    p_games_howell: float | None = None
    """Adjusted for the pairs of one metric; None as well where either group never varies, or fewer than three vary."""
    hedges_g: Interval | None


@dataclass(frozen=True, slots=True)
class Anova:
    """Welch's: whether any of three or more groups that vary differ."""

    f: float
    p: float


def summary(figures: Sequence[float]) -> Summary:
    """Return what a sample says of its mean.

    >>> found = summary([2.0, 4.0, 6.0])
    >>> found.mean, found.sd, round(found.se, 4), round(found.interval.half_width, 3)
    (4.0, 2.0, 1.1547, 4.968)
    """
    count, mean = len(figures), statistics.fmean(figures)
    if count < 2:
        return Summary(count=count, mean=mean, sd=None, se=None, interval=None)
    sd = statistics.stdev(figures)
    se = sd / math.sqrt(count)
    half = float(stdtrit(count - 1, 1 - _TAIL)) * se
    return Summary(count=count, mean=mean, sd=sd, se=se, interval=Interval(mean, mean - half, mean + half))


def differences(samples: Mapping[str, Sequence[float]]) -> list[Difference]:
    """Return the difference of every two groups of two figures or more, in the groups' order; without Holm's p."""
    able = {name: figures for name, figures in samples.items() if len(figures) > 1}
    found = [_difference(one, other, able[one], able[other]) for one, other in combinations(able, 2)]
    post_hoc = _games_howell(samples)
    return [replace(d, p_games_howell=post_hoc.get((d.one, d.other))) for d in found]


def anova(samples: Mapping[str, Sequence[float]]) -> Anova | None:
    """Return Welch's ANOVA of the groups that vary; None for fewer than three of them."""
    varying = _varying(samples)
    if len(varying) < 3:
        return None
    found = stats.f_oneway(*varying.values(), equal_var=False)
    return Anova(f=float(found.statistic), p=float(found.pvalue))


def never_varying(samples: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the groups of two figures or more that are all equal, in the groups' order.

    >>> never_varying({"one": [2.0, 2.0], "other": [1.0, 2.0], "single": [3.0]})
    ('one',)
    """
    return tuple(name for name, figures in samples.items() if len(figures) > 1 and is_constant(figures))


def adjusted(family: Mapping[str, Sequence[Difference]]) -> dict[str, tuple[Difference, ...]]:
    """Return the differences of several metrics, p adjusted after Holm over all of them together.

    Who reads ten tests looks for those that are significant, whichever metric they are of.
    """
    found = iter(holm([d.p for of in family.values() for d in of if d.p is not None]))
    return {
        metric: tuple(d if d.p is None else replace(d, p_holm=next(found)) for d in of) for metric, of in family.items()
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for their number, step by step from the smallest; never above 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def hedges_g(one: Sequence[float], other: Sequence[float]) -> Interval | None:
    """Return the effect's size in pooled standard deviations with its 95 % interval; None: neither sample varies."""
    free = len(one) + len(other) - 2
    squares = (len(one) - 1) * statistics.variance(one) + (len(other) - 1) * statistics.variance(other)
    if is_constant(one) and is_constant(other):
        return None
    scale = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    t = scale * (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(squares / free)
    shrunk = unbiased(free) / scale
    return Interval(shrunk * t, shrunk * _noncentral(t, free, 1 - _TAIL), shrunk * _noncentral(t, free, _TAIL))


def unbiased(free: int) -> float:
    """Return Hedges' exact factor c(m), by which a standardised difference is too large for so many degrees of freedom.

    >>> round(unbiased(10), 4), round(unbiased(2), 4)
    (0.9227, 0.5642)
    """
    return math.exp(float(gammaln(free / 2) - gammaln((free - 1) / 2))) / math.sqrt(free / 2)


def is_constant(figures: Sequence[float]) -> bool:
    """Return whether all figures are equal, but for what floating point rounds.

    >>> is_constant([0.1 + 0.2, 0.3]), is_constant([0.3, 0.301])
    (True, False)
    """
    return math.isclose(max(figures), min(figures), rel_tol=1e-12)


def _difference(one: str, other: str, first: Sequence[float], second: Sequence[float]) -> Difference:
    apart = statistics.fmean(first) - statistics.fmean(second)
    if is_constant(first) and is_constant(second):
        return Difference(
            one=one, other=other, difference=Interval(apart, apart, apart), t=None, degrees=None, p=None, hedges_g=None
        )
    errors = [statistics.variance(figures) / len(figures) for figures in (first, second)]
    error = math.sqrt(sum(errors))
    degrees = sum(errors) ** 2 / sum(e**2 / (len(f) - 1) for e, f in zip(errors, (first, second), strict=True))
    half = float(stdtrit(degrees, 1 - _TAIL)) * error
    return Difference(
        one=one, other=other, difference=Interval(apart, apart - half, apart + half), t=apart / error, degrees=degrees,
        p=2 * float(stdtr(degrees, -abs(apart / error))), hedges_g=hedges_g(first, second),
    )  # fmt: skip


def _games_howell(samples: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], float]:
    """Return the post-hoc test's p of every two groups that vary; nothing if there are fewer than three."""
    varying = _varying(samples)
    if len(varying) < 3:
        return {}
    found = stats.tukey_hsd(*varying.values(), equal_var=False).pvalue
    return {(one, other): float(found[i, j]) for (i, one), (j, other) in combinations(enumerate(varying), 2)}


def _varying(samples: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    return {name: figures for name, figures in samples.items() if len(figures) > 1 and not is_constant(figures)}


def _noncentral(t: float, free: int, share: float) -> float:
    """Return the noncentrality at which so large a share of t distributions' mass lies below ``t``."""

    def below(shift: float) -> float:
        found = float(stats.nct.cdf(t, free, shift))
        return found if math.isfinite(found) else float(shift < t)  # scipy gives up far out in the tails

    reach = abs(t) + 10.0
    while below(t - reach) < share or below(t + reach) > share:
        reach *= 2
    return float(brentq(lambda shift: below(shift) - share, t - reach, t + reach))
