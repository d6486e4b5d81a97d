"""When a measurement is exact enough: a pure rule over what was timed so far."""

import bisect
import math
from typing import Sequence

MIN_BLOCKS = 5
MIN_RUNS = 100
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


def enough(
    medians_ms: Sequence[float],
    runs: int,
    active_s: float,
    min_s: float,
    ci_rel: float,
) -> bool:
    """Whether the latency is known well enough.

    ``medians_ms``, ``runs`` and ``active_s`` are the candidate's: its blocks' medians, its inferences, its own seconds.
    """
    if len(medians_ms) < MIN_BLOCKS or runs < MIN_RUNS or active_s < min_s:
        return False
    return relative_half_width(medians_ms) <= ci_rel


def surely_above(shares: Sequence[float], limit: float) -> bool:
    """Whether the 95 % interval of the blocks' shares lies above ``limit`` as a whole.

    >>> surely_above([1.2, 1.21, 1.19, 1.2, 1.2], 1.0), surely_above([1.2, 0.9, 1.1, 1.3, 0.8], 1.0)
    (True, False)
    """
    if len(shares) < MIN_BLOCKS:
        return False
    return median(shares) * (1 - relative_half_width(shares)) > limit


def energy_enough(windows: Sequence[Sequence[float]], t_s: Sequence[float], w: Sequence[float], ci_rel: float) -> bool:
    """Whether the energy an inference is known well enough.

    ``windows`` are blocks as (start_s, end_s, inferences), ``t_s`` and ``w`` the sensor's samples so far; a block that
    they do not reach over yet does not count.
    """
    energies = [
        trapezoid(start, end, t_s, w) / runs
        for start, end, runs in windows
        if t_s and t_s[0] <= start and end <= t_s[-1]
    ]
    return len(energies) >= MIN_BLOCKS and relative_half_width(energies) <= ci_rel


def trapezoid(start_s: float, end_s: float, t_s: Sequence[float], w: Sequence[float]) -> float:
    """Return the energy of a window in joules, the power at its edges interpolated.

    >>> trapezoid(0.5, 2.0, [0.0, 1.0, 2.0], [1.0, 3.0, 3.0])
    4.25
    """
    first, last = bisect.bisect_right(t_s, start_s), bisect.bisect_left(t_s, end_s)
    times = [start_s] + list(t_s[first:last]) + [end_s]
    watts = [_at(start_s, t_s, w)] + list(w[first:last]) + [_at(end_s, t_s, w)]
    return sum((t1 - t0) * (w0 + w1) / 2 for t0, t1, w0, w1 in zip(times, times[1:], watts, watts[1:]))


def _at(moment_s: float, t_s: Sequence[float], w: Sequence[float]) -> float:
    """Return the power at a moment within the samples."""
    after = min(max(bisect.bisect_left(t_s, moment_s), 1), len(t_s) - 1)
    t0, t1, w0, w1 = t_s[after - 1], t_s[after], w[after - 1], w[after]
    return w0 + (w1 - w0) * (moment_s - t0) / (t1 - t0)


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
