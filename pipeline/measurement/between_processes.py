"""Between-process variance: what one process cannot see of itself.

A network that is loaded anew lies elsewhere in memory, on other pages and cores, and is a little faster or slower for
as long as its process lives: the spread of blocks within one process knows nothing of it, however long it runs. The
base model against itself in several processes shows it. Random effects of measurements that differ in how exact they
are: Paule and Mandel, Journal of Research of the National Bureau of Standards 87 (1982); degrees of freedom of a
difference of variances: Satterthwaite, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.measurement.intervals import Floats, student_t, welch
from pipeline.records import Interval

_MOST = 300.0
"""Half an interval of a logarithm, at most; beyond, its ends are no floats."""
_LEAST = 1e-24
"""Of a variance of logarithms: the twelfth digit of a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one network's ratio to the base model spreads over processes, as standard deviations of its logarithm."""

    total: float
    """Between the ratios of whole processes that are as exact as the most exact ones."""
    within: float
    """That blocks within such a process explain."""
    freedom: float
    """Degrees of freedom behind ``total``: processes, less one, where all are equally exact; else fewer."""

    @property
    def between(self) -> float:
        """What is left for the processes themselves; 0 where blocks explain all of it.

        >>> Spread(total=0.005, within=0.003, freedom=4).between
        0.004
        """
        return round(math.sqrt(max(0.0, self.total**2 - self.within**2)), 12)

    def __str__(self) -> str:
        """Return the spread in words.

        >>> str(Spread(total=0.005, within=0.003, freedom=4))
        'ratios differ by 0.40 % from process to process, which is part of every interval'
        """
        if self.between == 0:
            return "ratios differ from process to process by no more than one process can tell"
        return f"ratios differ by {self.between:.2%}".replace("%", " %") + (
            " from process to process, which is part of every interval"
        )

    def widened(self, one: Interval, processes: int = 1) -> Interval:
        """Return the interval of a ratio measured in so few processes with what differs between them in it.

        Of simulated boards whose processes differ by 0 to 4 times what blocks explain, known from 5 to 20 processes,
        94 to 98 % of these intervals hold the truth; as they were, 36 to 95 %.

        >>> Spread(total=0.005, within=0.005, freedom=4).widened(Interval(0.5, 0.49, 0.51))
        Interval(value=0.5, low=0.49, high=0.51)
        """
        between = self.between**2 / processes
        if between == 0:
            return one
        own = (_half_of_logarithm(one) / student_t(one.freedom)) ** 2
        reliable = (
            self.freedom * (self.between / self.total) ** 4
        )  # the error of a difference is that of the larger part
        freedom = welch([own, between], [one.freedom, reliable])
        half = max(student_t(freedom) * math.sqrt(own + between), _half_of_logarithm(one))
        return Interval(one.value, one.value * math.exp(-half), one.value * math.exp(half), freedom)

    def agrees(self, other: Spread) -> bool:
        """Return whether two sets of processes may well be of one spread: by an F test at the 5 % level.

        What is within a process may be another one in each, as it is for another length, so the other's processes are
        compared as they would have spread with this one's blocks.

        >>> small = Spread(total=0.001, within=0.0, freedom=4)
        >>> small.agrees(Spread(total=0.002, within=0.0, freedom=50)), small.agrees(
        ...     Spread(total=0.006, within=0.0, freedom=50)
        ... )
        (True, False)
        """
        expected = other.between**2 + self.within**2
        if expected == 0 or self.total == 0:
            return expected == self.total
        from scipy.special import fdtr  # as in ``stats.student_t``

        tail = float(fdtr(self.freedom, other.freedom, self.total**2 / expected))
        return 0.025 <= tail <= 0.975

    def __add__(self, other: Spread) -> Spread:
        """Return what two sets of processes of one board say together.

        >>> Spread(total=3.0, within=1.0, freedom=4) + Spread(total=3.0, within=1.0, freedom=12)
        Spread(total=3.0, within=1.0, freedom=16)
        """
        freedom = self.freedom + other.freedom
        total, within = (
            math.sqrt((self.freedom * one**2 + other.freedom * more**2) / freedom)
            for one, more in ((self.total, other.total), (self.within, other.within))
        )
        return Spread(total=total, within=within, freedom=freedom)


def between_processes(ratios: Sequence[Interval]) -> Spread | None:
    """Return how ratios of one network spread, each of a process of its own; None: fewer than two tell nothing.

    Each ratio counts by how exact it is: of a board with noisy neighbours one in ten intervals is several times as wide
    as the others, and where all count alike, these few hide what the others show of their processes.

    >>> found = between_processes([Interval(0.99, 0.98, 1.0), Interval(1.01, 1.0, 1.02)])
    >>> round(found.total, 4), round(found.within, 4), round(found.freedom, 9)
    (0.0141, 0.0051, 1.0)
    """
    if len(ratios) < 2:
        return None
    logs = np.log([ratio.value for ratio in ratios])
    within = np.square([_half_of_logarithm(ratio) / student_t(ratio.freedom) for ratio in ratios])
    between = _paule_mandel(logs, within)
    weights = _weights(within, between)
    typical = float(weights @ within / weights.sum())
    alike = float(weights.sum() ** 2 / (weights @ weights))  # as many equally exact ones tell as much (Kish 1965)
    return Spread(total=math.sqrt(between + typical), within=math.sqrt(typical), freedom=max(1.0, round(alike - 1, 9)))


def _paule_mandel(logs: Floats, within: Floats) -> float:
    """Return the variance between figures whose own variances are known, at least 0.

    That by which the squared distances from the weighted mean, each over its variance, add up to the degrees of
    freedom.
    """
    from scipy.optimize import brentq  # as in ``intervals.student_t``

    freedom = len(logs) - 1

    def excess(between: float) -> float:
        weights = _weights(within, between)
        return float(weights @ np.square(logs - weights @ logs / weights.sum())) - freedom

    most = float(logs.var(ddof=1))  # what they would spread by if they were exact
    if most == 0 or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, most))


def _weights(within: Floats, between: float) -> Floats:
    return 1 / np.maximum(within + between, _LEAST)


FEWEST_APART = 3
"""Two processes say next to nothing of their spread: Student's t with one degree of freedom is 12.7."""


def mean_of(figures: Sequence[Interval]) -> Interval:
    """Return the mean of figures, each of a process of its own, with its 95 % interval by Student's t between them.

    Of fewer than ``FEWEST_APART`` the interval is what their own say.

    >>> mean_of([Interval(1.0, 0.9, 1.1), Interval(1.0, 0.9, 1.1), Interval(1.0, 0.9, 1.1)])
    Interval(value=1.0, low=1.0, high=1.0)
    >>> mean_of([Interval(2.0, 1.0, 3.0)])
    Interval(value=2.0, low=1.0, high=3.0)
    """
    values, count = np.array([figure.value for figure in figures]), len(figures)
    if count < FEWEST_APART:
        squares = [(figure.half_width / student_t(figure.freedom) / count) ** 2 for figure in figures]
        error, freedom = math.sqrt(sum(squares)), welch(squares, [figure.freedom for figure in figures])
    else:
        error, freedom = float(values.std(ddof=1)) / math.sqrt(count), count - 1
    value, half = float(values.mean()), student_t(freedom) * error
    return Interval(value, value - half, value + half, freedom)


def log_mean(figures: Sequence[Interval]) -> Interval:
    """Return the geometric mean of figures above 0, each of a process of its own; the interval as ``mean_of`` says.

    >>> log_mean([Interval(0.5, 0.25, 1.0), Interval(2.0, 1.0, 4.0), Interval(1.0, 1.0, 1.0)]).value
    1.0
    """
    if len(figures) == 1:
        return figures[0]
    logs = mean_of([_logarithm(figure) for figure in figures])
    value, half = math.exp(logs.value), min(_MOST, logs.half_width)
    return Interval(round(value, 12), value * math.exp(-half), value * math.exp(half), logs.freedom)


def _logarithm(figure: Interval) -> Interval:
    value, half = math.log(figure.value), _half_of_logarithm(figure)
    return Interval(value, value - half, value + half, figure.freedom)


def _half_of_logarithm(figure: Interval) -> float:
    """Return half the interval of a figure's logarithm, exactly where that one is symmetric, as a ratio's."""
    return min(_MOST, math.asinh(figure.half_width / figure.value))
