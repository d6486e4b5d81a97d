import math
import random

import numpy as np
import pytest
from scipy import stats

from device_agents import stopping
from pipeline.stats import PowerTrace

STEADY = [2.0, 2.01, 1.99, 2.0, 2.0, 2.01]
LIMITS = {"min_s": 1.0, "ci_rel": 0.02}


def test_it_stops_when_the_figure_is_exact_enough():
    assert stopping.enough(STEADY, runs=100, active_s=1.0, **LIMITS)


@pytest.mark.parametrize(
    "change",
    [{"runs": 99}, {"active_s": 0.9}, {"medians_ms": STEADY[:4]}, {"medians_ms": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]}],
    ids=["few runs", "short", "few blocks", "noisy"],
)
def test_it_goes_on_while_one_condition_is_missing(change):
    assert not stopping.enough(**{"medians_ms": STEADY, "runs": 100, "active_s": 1.0, **LIMITS, **change})


def test_a_candidate_is_surely_above_only_when_its_whole_interval_is():
    generator = random.Random(3)
    noisy = [1.0 + generator.gauss(0, 0.2) for _ in range(8)]
    assert stopping.surely_above([1.3, 1.31, 1.29, 1.3, 1.3], 1.2)
    assert not stopping.surely_above([1.3, 1.31, 1.29, 1.3], 1.2), "too few blocks to know"
    assert not stopping.surely_above(noisy, 0.9)
    assert stopping.surely_above(noisy, 0.1)


def trace(seconds, watts):
    times = [i * 0.02 for i in range(int(seconds / 0.02))]
    return times, [watts(t) for t in times]


def test_energy_is_known_when_steady_blocks_agree_and_the_samples_reach_over_them():
    windows = [[t + 0.5, t + 2.0, 100] for t in range(0, 12, 2)]
    steady = trace(14, lambda t: 3.0 + 0.01 * math.sin(t))
    wild = trace(14, lambda t: 3.0 + (t // 2 % 3))

    assert stopping.energy_enough(windows, *steady, ci_rel=0.02)
    assert not stopping.energy_enough(windows, *wild, ci_rel=0.02)
    assert not stopping.energy_enough(windows[:4], *steady, ci_rel=0.02), "four blocks are too few"
    assert not stopping.energy_enough(windows, *trace(9, lambda _: 3.0), ci_rel=0.02), "two have no samples yet"
    assert not stopping.energy_enough(windows, [], [], ci_rel=0.02)


def test_a_window_s_energy_is_that_of_the_host():
    generator = random.Random(5)
    times, watts = trace(5, lambda _: 2.0 + generator.random())
    host = PowerTrace(np.array(times), np.array(watts))
    for start, end in ((0.0, 4.9), (0.013, 0.027), (0.021, 0.029), (1.0, 3.333)):
        assert stopping.trapezoid(start, end, times, watts) == pytest.approx(host.energy_j(start, end))


@pytest.mark.parametrize("freedom", [4, 5, 9, 20, 100, 5000])
def test_student_s_quantile_is_the_textbook_s(freedom):
    assert stopping.student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_the_interval_covers_the_truth_nineteen_times_in_twenty():
    generator = random.Random(1)
    hits = 0
    for _ in range(2000):
        medians = [generator.gauss(5.0, 0.2) for _ in range(8)]
        mean = sum(medians) / 8
        hits += abs(mean - 5.0) <= stopping.relative_half_width(medians) * stopping.median(medians)
    assert 0.93 < hits / 2000 < 0.97


def test_times_of_zero_are_never_exact():
    assert stopping.relative_half_width([0.0] * 6) == math.inf
