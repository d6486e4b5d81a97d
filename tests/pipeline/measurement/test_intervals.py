"""Statistics: intervals that hold what they promise, ratios that cancel what both nets share, energy by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from pipeline.measurement import intervals
from pipeline.measurement.intervals import Floats, PowerTrace


def leaning(count: int, correlation: float, random: np.random.Generator) -> Floats:
    """A series around 10 whose neighbours correlate: AR(1)."""
    noise = random.normal(size=count)
    series = np.empty(count)
    series[0] = noise[0] / math.sqrt(1 - correlation**2)
    for i in range(1, count):
        series[i] = correlation * series[i - 1] + noise[i]
    return 10 + 0.1 * series


def in_blocks(series: Floats, size: int = 25) -> list[Floats]:
    return [series[i : i + size] for i in range(0, len(series), size)]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_nineteen_of_twenty_intervals_hold_the_true_median_even_when_runs_lean_on_each_other(
    correlation: float,
) -> None:
    random = np.random.default_rng(0)
    found = [intervals.median_interval(in_blocks(leaning(500, correlation, random))) for _ in range(300)]
    assert 0.9 <= np.mean([i.low <= 10 <= i.high for i in found]) <= 0.98


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.4, 0.6])
@pytest.mark.parametrize("count", [20, 40, 60])
def test_nineteen_of_twenty_intervals_hold_the_mean_of_correlated_blocks(count: int, correlation: float) -> None:
    random = np.random.default_rng(2)
    for half_width in (intervals.half_width, intervals.half_width_beside_drift):
        drawn = [leaning(count, correlation, random) for _ in range(1500)]
        held = np.mean([abs(series.mean() - 10) <= half_width(series) for series in drawn])
        assert 0.93 <= held <= 0.98


def test_a_steady_drift_costs_the_mean_s_interval_nothing_although_its_neighbours_are_alike() -> None:
    series = leaning(30, 0.0, np.random.default_rng(3))
    drifting = series + np.arange(30)
    assert intervals.half_width_beside_drift(drifting) == pytest.approx(intervals.half_width_beside_drift(series))
    assert intervals.half_width_beside_drift(drifting) < 0.1 * intervals.half_width(drifting)


def test_correlated_blocks_count_for_fewer_so_that_their_interval_widens() -> None:
    series = np.repeat([1.0, 2.0, 1.5, 3.0, 2.5, 1.0], 10)
    independent = np.random.default_rng(0).permutation(series)
    assert intervals.effective_count(series) < 12
    assert intervals.half_width(series) > 2 * intervals.half_width(independent)


def test_one_block_says_nothing_of_its_spread_so_the_range_stands_in() -> None:
    interval = intervals.median_interval([np.array([1.0, 2.0, 9.0])])
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 9.0)


def test_percentiles_keep_the_slowest_run() -> None:
    assert intervals.percentiles(np.array([1.0] * 99 + [100.0]), [100]) == [100.0]


def test_a_board_that_slows_down_leaves_the_paired_ratio_sharp() -> None:
    drift = np.linspace(1.0, 1.5, 12)
    reference = [np.full(20, 4.0) * d for d in drift]
    candidate = [np.full(20, 2.0) * d for d in drift]
    ratio = intervals.ratio_interval(candidate, reference)
    assert ratio.value == pytest.approx(0.5)
    assert ratio.half_width < 1e-9
    assert intervals.median_interval(candidate).half_width > 0.1


def test_the_ratio_of_two_equal_nets_holds_one_and_turns_round_with_its_arguments() -> None:
    random = np.random.default_rng(1)
    a, b = (in_blocks(10 + random.normal(size=400)) for _ in range(2))
    forth, back = intervals.ratio_interval(a, b), intervals.ratio_interval(b, a)
    assert forth.low < 1 < forth.high
    assert forth.value * back.value == pytest.approx(1)
    assert forth.low * back.high == pytest.approx(1)


def test_few_pairs_are_wider_than_their_spread_says() -> None:
    logs = np.array([0.01, -0.02, 0.02, -0.01, 0.0])
    few, more = intervals.ratio_of_logs(logs), intervals.ratio_of_logs(np.tile(logs, 2))
    assert few.high == pytest.approx(math.exp(intervals.FEW_PAIRS_WIDER * intervals.half_width(logs)))
    assert more.high == pytest.approx(math.exp(intervals.half_width(np.tile(logs, 2))))


@pytest.mark.parametrize("blocks", [0.01, 0.1, 0.5, 0.9, 2.0, 10.0, 100.0])
def test_in_turns_no_noise_that_decays_makes_the_error_of_few_pairs_much_larger_than_their_spread_says(
    blocks: float,
) -> None:
    """The correlation falls by e over so many blocks: covariances of an Ornstein-Uhlenbeck process's block means."""
    pairs, fades = 5, 1 - math.exp(-1 / blocks)
    lags = np.abs(np.subtract.outer(np.arange(2 * pairs), np.arange(2 * pairs)))
    covariance = np.where(
        lags == 0, 2 * blocks * (1 - blocks * fades), (blocks * fades) ** 2 * np.exp((1 - lags) / blocks)
    )
    turns = np.kron(np.eye(pairs), [1.0, -1.0])
    turns[1::2] *= -1
    of_pairs = turns @ covariance @ turns.T
    true = of_pairs.mean()
    told = (np.trace(of_pairs) / pairs - true) / (pairs - 1)
    assert 0.99 < math.sqrt(true / told) < 1.22


def test_energy_of_a_ramp_is_its_integral_with_interpolated_edges() -> None:
    t = np.arange(0, 10.01, 0.1)
    trace = PowerTrace(t, 2 * t)
    assert trace.energy_j(0.55, 7.33) == pytest.approx(7.33**2 - 0.55**2)
    assert trace.mean_w(1, 3) == pytest.approx(4)


def test_energy_outside_the_samples_is_refused_rather_than_extrapolated() -> None:
    trace = PowerTrace(np.array([1.0, 2.0]), np.array([5.0, 5.0]))
    for window in [(0.5, 1.5), (1.5, 2.5), (1.5, 1.5)]:
        with pytest.raises(ValueError, match="no power samples around the window"):
            trace.energy_j(*window)


def test_power_samples_that_run_backwards_are_refused() -> None:
    with pytest.raises(ValueError, match="not in the order of time"):
        PowerTrace(np.array([1.0, 1.0]), np.array([5.0, 5.0]))


def test_a_gap_is_found_where_it_touches_the_window() -> None:
    trace = PowerTrace(np.array([0.0, 1.0, 2.0, 9.0, 10.0]), np.ones(5))
    assert trace.gap_s(0.5, 1.5) == 1
    assert trace.gap_s(3, 4) == 7
    assert trace.inside(0, 2) == 3
    assert trace.cycle_s == 1


def test_many_windows_of_a_long_trace_take_no_more_than_their_own_samples() -> None:
    t_s = np.arange(0.0, 20_000.0, 0.02)
    trace = PowerTrace(t_s, np.full(len(t_s), 2.0))
    windows = np.linspace(1.0, 19_000.0, 20_000)
    start = time.process_time()
    energy_j = sum(trace.energy_j(at, at + 0.5) for at in windows)
    samples = sum(trace.inside(at, at + 0.5) for at in windows)

    assert energy_j == pytest.approx(20_000.0)
    assert samples == pytest.approx(20_000 * 25, rel=0.05)
    assert max(trace.gap_s(at, at + 0.5) for at in windows) == pytest.approx(0.02)
    assert time.process_time() - start < 10  # a look at all million samples for each takes minutes
