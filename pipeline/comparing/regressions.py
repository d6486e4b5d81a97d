"""What a channel that goes costs and brings: straight lines of accuracy, latency, power on pruning intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats
from scipy.special import stdtrit

from pipeline.records import Interval

FEWEST = 3
"""Points that a line with an uncertainty takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A straight line by least squares."""

    slope: Interval
    """Change of the figure as the intensity goes from 0 to 1; 95 %, Student's t."""
    intercept: float
    r_squared: float
    p: float
    """That there is no slope."""
    count: int


def regression(intensities: Sequence[float], figures: Sequence[float]) -> Regression | None:
    """Return the line of ``figures`` on ``intensities``; None: too few points, or all of one intensity or figure.

    >>> line = regression([0.0, 0.2, 0.4], [1.0, 0.9, 0.8])
    >>> round(line.slope.value, 6), round(line.intercept, 6), round(line.r_squared, 6), line.count
    (-0.5, 1.0, 1.0, 3)
    """
    if len(figures) < FEWEST or len(set(intensities)) < 2 or len(set(figures)) < 2:
        return None
    line = stats.linregress(intensities, figures)
    half = float(stdtrit(len(figures) - 2, 0.975)) * float(line.stderr)
    slope = float(line.slope)
    return Regression(
        slope=Interval(slope, slope - half, slope + half), intercept=float(line.intercept),
        r_squared=float(line.rvalue) ** 2, p=float(line.pvalue), count=len(figures),
    )  # fmt: skip
