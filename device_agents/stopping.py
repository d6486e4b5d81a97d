"""When a measurement is exact enough: a pure rule over what was timed so far."""

import math
from typing import Sequence

MIN_BLOCKS = 5
MIN_RUNS = 100
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


def enough(
    medians_ms: Sequence[float],
    runs: int,
    active_s: float,
    elapsed_s: float,
    min_s: float,
    max_s: float,
    ci_rel: float,
) -> bool:
    """Whether to stop.

    ``medians_ms``, ``runs`` and ``active_s`` are the candidate's: its blocks' medians, its inferences, its own seconds.
    ``elapsed_s`` counts from the first block, with the reference's time in it; past ``max_s`` it ends in any case.
    """
    if elapsed_s >= max_s:
        return True
    if len(medians_ms) < MIN_BLOCKS or runs < MIN_RUNS or active_s < min_s:
        return False
    return relative_half_width(medians_ms) <= ci_rel


def relative_half_width(medians_ms: Sequence[float]) -> float:
    """Return the half-width of the 95 % batch-means interval of the medians, over their own median.

    Neighbouring inferences are alike, so the spread of whole blocks counts, never that of single inferences
    (Law and Kelton, Simulation Modeling and Analysis, section on batch means).

    >>> relative_half_width([2.0, 2.0, 2.0])
    0.0
    """
    count = len(medians_ms)
    mean = sum(medians_ms) / count
    variance = sum((value - mean) ** 2 for value in medians_ms) / (count - 1)
    center = median(medians_ms)
    if center <= 0:
        return math.inf
    return student_t(count - 1) * math.sqrt(variance / count) / center


def student_t(freedom: int) -> float:
    """Return Student's 97.5 % quantile, within 0.2 % from four degrees of freedom.

    Abramowitz and Stegun, formula 26.7.5.

    >>> [round(student_t(n), 2) for n in (9, 30, 1000)]
    [2.26, 2.04, 1.96]
    """
    z, n = _Z, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def median(values: Sequence[float]) -> float:
    """Return the middle value.

    >>> median([3.0, 1.0, 2.0, 9.0])
    2.5
    """
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
