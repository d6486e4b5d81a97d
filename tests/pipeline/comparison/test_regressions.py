"""Lines on intensity: one run's by the textbook, a group's by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.comparison.regressions import Points, line, regression

SLOPE = -0.5
BETWEEN = 0.15
"""Standard deviation of the slope from run to run."""
NETWORKS = 60


def simulated(runs: int, rng: np.random.Generator) -> list[Points]:
    """Runs whose true slopes and levels differ, and whose searches dwelt on different intensities."""
    found: list[Points] = []
    for slope, level, centre in zip(
        rng.normal(SLOPE, BETWEEN, runs), rng.normal(0.9, 0.02, runs), rng.uniform(0.3, 0.6, runs), strict=True
    ):
        x = np.clip(rng.normal(centre, 0.15, NETWORKS), 0, 1)
        found.append(list(zip(x, level + slope * x + rng.normal(0, 0.05, NETWORKS), strict=True)))
    return found


def test_a_line_is_that_of_anscombes_first_set() -> None:
    x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    found = line(list(zip(x, y, strict=True)))  # Anscombe, The American Statistician 27, 1973: y = 3 + 0.5 x, R² 0.667
    assert found is not None
    assert (found.slope, found.intercept, found.r_squared) == pytest.approx((0.5, 3.0, 0.667), abs=5e-4)


def test_there_is_no_line_through_too_little() -> None:
    little: list[Points] = [
        [], [(0.1, 1.0), (0.2, 2.0)], [(0.3, 1.0), (0.3, 2.0), (0.3, 3.0)], [(0.1, 1.0), (0.2, 1.0), (0.3, 1.0)],
    ]  # fmt: skip
    assert [line(points) for points in little] == [None] * 4
    assert regression(little) is None
    assert regression([]) is None


def test_the_runs_are_the_sample() -> None:
    slopes = (-0.4, -0.5, -0.6, -0.3)
    runs: list[Points] = [[(x, 1 + slope * x) for x in (0.0, 0.2, 0.7, 0.9)] for slope in slopes]
    found = regression([*runs, [(0.1, 0.2)]])  # the last has no line
    assert found is not None
    expected = stats.ttest_1samp(slopes, 0.0)
    bounds = expected.confidence_interval(0.95)
    assert found.slope.interval is not None
    assert (found.slope.interval.low, found.slope.interval.high) == pytest.approx((bounds.low, bounds.high))
    assert (found.slope.mean, found.p) == pytest.approx((-0.45, expected.pvalue))
    assert (found.intercept, found.r_squared) == pytest.approx((1.0, 1.0))
    assert (found.slope.count, found.count, found.why_no_p) == (4, 16, "")


@pytest.mark.parametrize(("runs", "why"), [(1, "1 run"), (2, "2 runs")])
def test_fewer_than_three_runs_have_no_p_and_it_says_why(runs: int, why: str) -> None:
    found = regression(simulated(runs, np.random.default_rng(1)))
    assert found is not None
    assert (found.p, found.why_no_p) == (None, why)
    assert (found.slope.interval is None) == (runs == 1)


def test_runs_of_one_and_the_same_slope_have_no_spread_to_test_with() -> None:
    found = regression(simulated(1, np.random.default_rng(1)) * 3)
    assert found is not None
    assert (found.p, found.why_no_p) == (None, "equal slopes")


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_interval_holds_the_true_slope_where_slopes_differ_from_run_to_run(runs: int) -> None:
    rng, held, times = np.random.default_rng(runs), 0, 1000
    for _ in range(times):
        found = regression(simulated(runs, rng))
        assert found is not None
        assert found.slope.interval is not None
        held += found.slope.interval.low <= SLOPE <= found.slope.interval.high
    assert 0.93 <= held / times <= 0.97


def test_an_interval_over_all_networks_as_if_they_were_independent_does_not() -> None:
    rng, held, times = np.random.default_rng(0), 0, 300
    for _ in range(times):
        every = np.array([point for points in simulated(5, rng) for point in points])
        found = stats.linregress(every[:, 0], every[:, 1])
        held += abs(found.slope - SLOPE) <= stats.t.ppf(0.975, len(every) - 2) * found.stderr
    assert held / times < 0.6
