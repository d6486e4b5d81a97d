"""When a measurement is exact enough: a pure rule over what was timed so far.

The interval is the host's own (``pipeline.measurement.intervals.half_width``), written once more without numpy.
"""

import bisect
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

MIN_BLOCKS = 5
"""Fewer blocks tell too little of their own spread. Blocks of 2 s, as sensors need them, seldom come in larger numbers;
the usual 25 ms fill ``min_s`` with 20."""
MIN_RUNS = 100
FIRST_LOOK = 8
LOOK_EVERY = 4
"""A candidate may be rejected after 8 pairs of blocks, and after every fourth from there on."""
LEAST_MS = 1e-6
"""Times are sent in nanoseconds."""
FEWEST_CORRELATED = 8
HIGHEST_LAG1 = 0.75
LOWEST_LAG1 = -0.3
LAG1_ERRORS = 0.8
FEW_PAIRS_WIDER = 1.1
"""See ``pipeline.measurement.intervals``, where the five have the same values."""

Windows = Sequence[Sequence[float]]
"""Of one turn: each model's block as (start_s, end_s, inferences), the candidate's first."""


class Level(NamedTuple):
    """A level of confidence: its normal quantile, and the polynomial in 1/freedom that leads to Student's.

    ln(t/z) = c1/freedom + c2/freedom^2 + c3/freedom^3 + c4/freedom^4, fitted to scipy's stdtrit: within 0.002 % at 95 %
    and 0.05 % at 99.8 %, from two degrees of freedom on, whole or not.
    """

    z: float
    coefficients: Tuple[float, float, float, float]


CENTRAL_95 = Level(1.959963984540054, (1.2100462, 0.71297188, 0.1258883, -0.20336458))
CENTRAL_998 = Level(3.090232306167813, (2.6217582, 3.17654356, -0.50162332, -1.04350952))
"""Of each side's tail, 0.1 % lies outside."""


def enough(
    candidate_ms: Sequence[float],
    reference_ms: Optional[Sequence[float]],
    runs: int,
    active_s: float,
    min_s: float,
    ci_rel: float,
) -> bool:
    """Whether the latency is known well enough: over the reference's where there is one, else by itself.

    ``candidate_ms`` and ``reference_ms`` are the blocks' medians, pair by pair; ``runs`` and ``active_s`` the
    candidate's inferences and seconds. What slows both models down alike widens no ratio, and nothing but the ratio is
    compared afterwards.
    """
    if len(candidate_ms) < MIN_BLOCKS or runs < MIN_RUNS or active_s < min_s:
        return False
    if reference_ms is None:
        return relative_half_width(candidate_ms) <= ci_rel
    return is_exact(log_ratios(candidate_ms, reference_ms), ci_rel)


def is_exact(logs: Sequence[float], ci_rel: float) -> bool:
    """Whether the ratio whose logarithm was found once a pair of blocks is known to ``ci_rel``."""
    wider = FEW_PAIRS_WIDER if len(logs) < FEWEST_CORRELATED else 1.0
    return wider * half_width(logs) <= math.asinh(ci_rel)


def surely_above(candidate_ms: Sequence[float], reference_ms: Sequence[float], limit: float) -> bool:
    """Whether candidate over reference lies above ``limit``, by a group-sequential test.

    The bound is that of Haybittle and Peto: one-sided 0.1 % at each look, so that all of them together err seldom
    (Haybittle, British Journal of Radiology 44, 1971; Peto et al., British Journal of Cancer 34, 1976). Looks are fixed
    beforehand: after ``FIRST_LOOK`` pairs and every ``LOOK_EVERY`` from there on. Of candidates 1 % below the limit at
    most 1 % are rejected in whole measurements, of those exactly at it 0.5 to 2.4 %, where each model's blocks scatter
    by 1 to 3 % and correlate by 0 to 0.6 (``benchmarks/block_intervals.py``).

    >>> surely_above([1.2, 1.21, 1.19, 1.2] * 2, [1.0] * 8, 1.0), surely_above([1.2, 0.9, 1.3, 0.8] * 2, [1.0] * 8, 1.0)
    (True, False)
    """
    pairs = len(candidate_ms)
    if pairs < FIRST_LOOK or (pairs - FIRST_LOOK) % LOOK_EVERY:
        return False
    logs = log_ratios(candidate_ms, reference_ms)
    return math.exp(sum(logs) / pairs - half_width(logs, CENTRAL_998)) > limit


def log_ratios(candidate_ms: Sequence[float], reference_ms: Sequence[float]) -> List[float]:
    """Return the logarithm of candidate over reference, pair by pair; no time counts as less than a nanosecond.

    >>> log_ratios([2.0, 0.0], [2.0, 0.0])
    [0.0, 0.0]
    """
    return [math.log(max(a, LEAST_MS) / max(b, LEAST_MS)) for a, b in zip(candidate_ms, reference_ms)]


def energy_enough(turns: Sequence[Windows], t_s: Sequence[float], w: Sequence[float], ci_rel: float) -> bool:
    """Whether the energy an inference is known well enough: over the reference's where there is one, else by itself.

    ``t_s`` and ``w`` are the sensor's samples so far; a turn that they do not reach over yet does not count.
    """
    energies = [
        [trapezoid(start, end, t_s, w) / runs for start, end, runs in turn]
        for turn in turns
        if t_s and all(t_s[0] <= start and end <= t_s[-1] for start, end, _ in turn)
    ]
    if len(energies) < MIN_BLOCKS or min(map(min, energies)) <= 0:
        return False
    if len(energies[0]) == 1:
        return relative_half_width([alone for (alone,) in energies]) <= ci_rel
    return is_exact([math.log(candidate / reference) for candidate, reference in energies], ci_rel)


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
    """Return the half-width of the 95 % interval of the medians, over their own median.

    Neighbouring inferences are alike, so the spread of whole blocks counts, never that of single inferences
    (Law and Kelton, Simulation Modeling and Analysis, section on batch means).

    >>> relative_half_width([2.0, 2.0, 2.0])
    0.0
    """
    center = median(medians_ms)
    return half_width(medians_ms) / center if center > 0 else math.inf


def half_width(figures: Sequence[float], level: Level = CENTRAL_95) -> float:
    """Return half the confidence interval of the mean of one figure a block, whose neighbours may be alike.

    >>> round(half_width([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]), 3)
    1.15
    """
    count = effective_count(figures)
    return student_t(count - 1, level) * math.sqrt(variance(figures) / count)


def effective_count(figures: Sequence[float]) -> float:
    """Return how many independent blocks would tell as much of the mean; see the host's of the same name.

    >>> effective_count([1.0, 2.0, 3.0]), round(effective_count([float(n) for n in range(20)]), 9)
    (3.0, 3.0)
    """
    count = len(figures)
    if count < FEWEST_CORRELATED:
        return float(count)
    correlation = (count * lag1(figures) + 1) / (count - 4) + LAG1_ERRORS / math.sqrt(count)
    correlation = min(max(correlation, LOWEST_LAG1), HIGHEST_LAG1)
    return max(3.0, count * (1 - correlation) / (1 + correlation))


def lag1(figures: Sequence[float]) -> float:
    """Return the correlation of each figure with the next one.

    >>> round(lag1([1.0, 2.0, 3.0, 4.0, 5.0]), 3), lag1([1.0, 1.0])
    (0.4, 0.0)
    """
    mean = sum(figures) / len(figures)
    total = sum((value - mean) ** 2 for value in figures)
    return sum((a - mean) * (b - mean) for a, b in zip(figures, figures[1:])) / total if total > 0 else 0.0


def variance(figures: Sequence[float]) -> float:
    """Return the mean squared departure from the mean, one degree of freedom less."""
    mean = sum(figures) / len(figures)
    return sum((value - mean) ** 2 for value in figures) / (len(figures) - 1)


def student_t(freedom: float, level: Level = CENTRAL_95) -> float:
    """Return Student's quantile, from two degrees of freedom on.

    >>> [round(student_t(n), 3) for n in (2, 9, 30, 1000)]
    [4.303, 2.262, 2.042, 1.962]
    """
    return level.z * math.exp(sum(factor / freedom**power for power, factor in enumerate(level.coefficients, 1)))


def median(values: Sequence[float]) -> float:
    """Return the middle value.

    >>> median([3.0, 1.0, 2.0, 9.0])
    2.5
    """
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
