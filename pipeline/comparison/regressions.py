"""Linear regression of accuracy, latency and power on pruning intensity, run by run.

A line a run, and the run is the sample: a search picks its next network by those before it and all of them are read on
the same images, so networks of one run are no independent points. Of simulated groups of 3 to 10 runs of 60 networks,
whose slopes spread by a third of their mean, an interval over all networks together held the true slope in 36 to 39 %,
Student's t over the runs' slopes in 95 to 96 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from pipeline.comparison.significance import Summary, is_constant, summary

Points = Sequence[tuple[float, float]]
"""Intensity and figure of each network."""
FEWEST = 3
"""Points that say how well a line fits them."""
FEWEST_RUNS = 3
"""Runs that a p takes: with two, Student's t has one degree of freedom."""
EQUAL = "equal slopes"
"""Why there is no p, and no interval that means anything, where all runs came to one slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run's straight line by least squares."""

    slope: float
    """Change of the figure as the intensity goes from 0 to 1."""
    intercept: float
    r_squared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """The straight lines of a group's runs."""

    slope: Summary
    """Change of the figure as the intensity goes from 0 to 1: over the runs that have a line."""
    intercept: float
    """Mean over the runs, as the next."""
    r_squared: float
    p: float | None
    """That there is no slope, Student's t over the runs."""
    why_no_p: str = ""
    count: int
    """Networks of all these runs."""


def regression(runs: Sequence[Points]) -> Regression | None:
    """Return the lines of a group's runs; None: none of them has one.

    >>> found = regression([[(0.0, 1.0), (0.2, 0.9), (0.4, 0.8)], [(0.0, 1.0), (0.2, 0.88), (0.4, 0.76)]])
    >>> round(found.slope.mean, 6), round(found.intercept, 6), found.why_no_p, found.count
    (-0.55, 1.0, '2 runs', 6)
    """
    lines = [(found, len(points)) for points in runs if (found := line(points)) is not None]
    if not lines:
        return None
    slope, why = summary([found.slope for found, _ in lines]), _why_no_p([found.slope for found, _ in lines])
    return Regression(
        slope=slope, p=None if why else _p(slope), why_no_p=why,
        intercept=statistics.fmean(found.intercept for found, _ in lines),
        r_squared=statistics.fmean(found.r_squared for found, _ in lines),
        count=sum(count for _, count in lines),
    )  # fmt: skip


def line(points: Points) -> Line | None:
    """Return one run's line; None: too few points, or all of one intensity or figure.

    >>> found = line([(0.0, 1.0), (0.2, 0.9), (0.4, 0.8)])
    >>> round(found.slope, 6), round(found.intercept, 6), round(found.r_squared, 6)
    (-0.5, 1.0, 1.0)
    """
    if len(points) < FEWEST or any(len(set(values)) < 2 for values in zip(*points, strict=True)):
        return None
    x, y = np.array(points, dtype=np.float64).T
    centred_x, centred_y = x - x.mean(), y - y.mean()
    across = float(centred_x @ centred_y)
    slope = across / float(centred_x @ centred_x)
    return Line(
        slope=slope, intercept=float(y.mean()) - slope * float(x.mean()),
        r_squared=slope * across / float(centred_y @ centred_y),
    )  # fmt: skip


def _why_no_p(slopes: Sequence[float]) -> str:
    if len(slopes) < FEWEST_RUNS:
        return "1 run" if len(slopes) == 1 else f"{len(slopes)} runs"
    return EQUAL if is_constant(slopes) else ""


def _p(slope: Summary) -> float:
    assert slope.se is not None  # of three runs or more
    return 2 * float(stdtr(slope.count - 1, -abs(slope.mean / slope.se)))
