import itertools
import math
import random

import numpy as np
import pytest
from scipy.special import stdtrit

from device_agents import stopping
from device_agents.stopping import CENTRAL_95, CENTRAL_998
from pipeline.measurement import intervals

STEADY = [2.0, 2.01, 1.99, 2.0, 2.0, 2.01]
UNSTEADY = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
ENOUGH = {"candidate_ms": STEADY, "reference_ms": None, "runs": 100, "active_s": 1.0, "min_s": 1.0, "ci_rel": 0.02}


def series(count, correlation, generator):
    """First-order autoregressive figures of deviation 1."""
    values = [generator.gauss(0, 1)]
    while len(values) < count:
        values.append(correlation * values[-1] + math.sqrt(1 - correlation**2) * generator.gauss(0, 1))
    return values


def test_it_stops_when_the_figure_is_exact_enough():
    assert stopping.enough(**ENOUGH)


@pytest.mark.parametrize(
    "change",
    [{"runs": 99}, {"active_s": 0.9}, {"candidate_ms": STEADY[:4]}, {"candidate_ms": UNSTEADY}],
    ids=["few runs", "short", "few blocks", "noisy"],
)
def test_it_goes_on_while_one_condition_is_missing(change):
    assert not stopping.enough(**{**ENOUGH, **change})


def test_beside_a_reference_the_ratio_alone_says_when_it_is_enough():
    both_slowed = {"candidate_ms": UNSTEADY, "reference_ms": [2 * ms for ms in UNSTEADY]}
    assert stopping.enough(**{**ENOUGH, **both_slowed})
    assert not stopping.enough(**{**ENOUGH, "reference_ms": UNSTEADY}), "the candidate alone is steady"


@pytest.mark.parametrize("pairs", [5, 7, 8, 30])
def test_what_is_enough_for_the_agent_is_as_exact_as_was_asked_for_the_host(pairs):
    generator = random.Random(8)
    for correlation, spread in itertools.product((0.0, 0.5), (0.01, 0.03, 0.05, 0.07, 0.09)):
        candidate = [math.exp(spread * value) for value in series(pairs, correlation, generator)]
        blocks = [np.array([ms]) for ms in candidate], [np.array([1.0])] * len(candidate)
        ratio = intervals.ratio_interval(*blocks)
        told = {**ENOUGH, "candidate_ms": candidate, "reference_ms": [1.0] * len(candidate)}
        assert stopping.enough(**told) == (ratio.half_width <= 0.02 * ratio.value)


def test_a_candidate_is_surely_above_only_when_its_whole_interval_is():
    generator = random.Random(3)
    noisy = [1.0 + generator.gauss(0, 0.1) for _ in range(8)]
    assert stopping.surely_above([1.3, 1.31, 1.29, 1.3] * 2, [1.0] * 8, 1.2)
    assert stopping.surely_above(noisy, [1.0] * 8, 0.5)
    assert not stopping.surely_above(noisy, [1.0] * 8, 0.95)


def test_it_looks_at_fixed_numbers_of_pairs_alone_whether_a_candidate_is_above():
    looks = [pairs for pairs in range(1, 30) if stopping.surely_above([1.3] * pairs, [1.0] * pairs, 1.2)]
    assert looks == [8, 12, 16, 20, 24, 28]


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_of_networks_one_percent_below_the_limit_fewer_than_one_in_fifty_are_rejected_in_all_looks_together(
    correlation,
):
    generator = random.Random(4)
    rejected = 0
    for _ in range(400):
        candidate = [0.99 * math.exp(0.04 * value) for value in series(48, correlation, generator)]
        rejected += any(stopping.surely_above(candidate[:n], [1.0] * n, 1.0) for n in range(49))
    assert rejected < 8


def trace(seconds, watts):
    times = [i * 0.02 for i in range(int(seconds / 0.02))]
    return times, [watts(t) for t in times]


def test_energy_is_known_when_steady_blocks_agree_and_the_samples_reach_over_them():
    turns = [[[t + 0.5, t + 2.0, 100]] for t in range(0, 12, 2)]
    steady = trace(14, lambda t: 3.0 + 0.01 * math.sin(t))
    wild = trace(14, lambda t: 3.0 + (t // 2 % 3))

    assert stopping.energy_enough(turns, *steady, ci_rel=0.02)
    assert not stopping.energy_enough(turns, *wild, ci_rel=0.02)
    assert not stopping.energy_enough(turns[:4], *steady, ci_rel=0.02), "four blocks are too few"
    assert not stopping.energy_enough(turns, *trace(9, lambda _: 3.0), ci_rel=0.02), "two have no samples yet"
    assert not stopping.energy_enough(turns, *trace(14, lambda _: 0.0), ci_rel=0.02), "no power is no figure"
    assert not stopping.energy_enough(turns, [], [], ci_rel=0.02)


def test_beside_a_reference_the_energy_is_known_when_its_ratio_is():
    turns = [[[t + 0.1, t + 1.0, 100], [t + 1.1, t + 2.0, 50]] for t in range(0, 12, 2)]
    both_rise = trace(14, lambda t: 3.0 + (t // 2 % 3))
    one_rises = trace(14, lambda t: 3.0 + (t // 1 % 3))

    assert stopping.energy_enough(turns, *both_rise, ci_rel=0.02)
    assert not stopping.energy_enough(turns, *one_rises, ci_rel=0.02)
    assert not stopping.energy_enough(turns, *trace(9.9, lambda _: 3.0), ci_rel=0.02), "the fifth reference is not over"


def test_a_window_s_energy_is_that_of_the_host():
    generator = random.Random(5)
    times, watts = trace(5, lambda _: 2.0 + generator.random())
    host = intervals.PowerTrace(np.array(times), np.array(watts))
    for start, end in ((0.0, 4.9), (0.013, 0.027), (0.021, 0.029), (1.0, 3.333)):
        assert stopping.trapezoid(start, end, times, watts) == pytest.approx(host.energy_j(start, end))


@pytest.mark.parametrize("freedom", [2, 2.01, 2.5, 3, 4, 5.5, 9, 20, 100, 5000])
def test_student_s_quantile_is_the_textbook_s(freedom):
    assert stopping.student_t(freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=2e-5)
    assert stopping.student_t(freedom, CENTRAL_998) == pytest.approx(stdtrit(freedom, 0.999), rel=5e-4)


@pytest.mark.parametrize(("level", "confidence"), [(CENTRAL_95, 0.95), (CENTRAL_998, 0.998)])
def test_agent_and_host_find_the_same_interval_in_the_same_figures(level, confidence):
    generator = random.Random(9)
    for count, correlation in itertools.product((3, 5, 7, 8, 9, 20, 61, 400), (-0.6, 0.0, 0.3, 0.6, 0.95)):
        for _ in range(20):
            figures = [5.0 + value for value in series(count, correlation, generator)]
            host = np.array(figures)
            assert stopping.effective_count(figures) == pytest.approx(intervals.effective_count(host))
            expected = intervals.half_width(host, confidence)
            assert stopping.half_width(figures, level) == pytest.approx(expected, rel=5e-4)


def test_agent_and_host_agree_on_every_number_behind_their_intervals():
    names = ("FEWEST_CORRELATED", "HIGHEST_LAG1", "LOWEST_LAG1", "LAG1_ERRORS")
    assert [getattr(stopping, name) for name in names] == [getattr(intervals, name) for name in names]
    assert stopping.MIN_BLOCKS == intervals.FEWEST_BLOCKS


def test_times_of_zero_are_never_exact_and_no_error():
    assert stopping.relative_half_width([0.0] * 6) == math.inf
    assert not stopping.enough(**{**ENOUGH, "reference_ms": [0.0, 1.0] * 3})
    assert not stopping.surely_above([0.0, 1.0] * 4, [1.0, 0.0] * 4, 1.0)
