import math
import random

import pytest
from scipy import stats

from device_agents import stopping

STEADY = [2.0, 2.01, 1.99, 2.0, 2.0, 2.01]
LIMITS = {"min_s": 1.0, "max_s": 10.0, "ci_rel": 0.02}


def test_it_stops_when_the_figure_is_exact_enough():
    assert stopping.enough(STEADY, runs=100, active_s=1.0, elapsed_s=2.0, **LIMITS)


@pytest.mark.parametrize(
    "change",
    [{"runs": 99}, {"active_s": 0.9}, {"medians_ms": STEADY[:4]}, {"medians_ms": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]}],
    ids=["few runs", "short", "few blocks", "noisy"],
)
def test_it_goes_on_while_one_condition_is_missing_and_yields_to_the_time_limit(change):
    state = {"medians_ms": STEADY, "runs": 100, "active_s": 1.0, "elapsed_s": 2.0, **LIMITS, **change}

    assert not stopping.enough(**state)
    assert stopping.enough(**{**state, "elapsed_s": 10.0})


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
