from __future__ import annotations

import math

import pytest

from pipeline.measurement.drift import corrected, corrected_power, drift_of, footing
from pipeline.records import Interval
from tests.examples import failed_trial, measurement, power, trial


def test_drift_is_the_base_models_latency_beside_the_trials() -> None:
    beside = [2.0, 2.2, 1.9, 2.1]
    trials = [trial(i, measurement=measurement(reference_p50_ms=ms)) for i, ms in enumerate(beside)]
    found = drift_of([*trials, failed_trial(9), trial(10, cached=True, measurement=measurement(reference_p50_ms=9.0))])
    assert found is not None
    assert (found.first_ms, found.last_ms, found.lowest_ms, found.highest_ms, found.trials) == (2.0, 2.1, 1.9, 2.2, 4)
    assert found.share == pytest.approx(0.05)


def test_without_a_reference_there_is_no_drift_to_tell() -> None:
    assert drift_of([trial()]) is None


def test_a_latency_is_freed_of_drift_by_the_base_model_that_ran_beside_it() -> None:
    hot = measurement(1.2, ratio=Interval(0.5, 0.4, 0.6))  # the board ran 20 % slower than when the base was measured
    found = corrected(hot, measurement(2.0))
    half = math.hypot(0.1 / 0.5, 0.02 / 2.0)  # the ratio's, and the base model's own
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1 - half, 1 + half))
    assert corrected(hot, None) == corrected(measurement(1.2, ratio=None), measurement(2.0)) == hot.p50_ms


def test_percentiles_and_mean_stand_beside_the_corrected_median_by_one_factor() -> None:
    fast = measurement(0.8, ratio=Interval(0.5, 0.49, 0.51))  # the board ran 20 % faster than beside the base model
    factor = footing(fast, measurement(2.0))
    assert factor == pytest.approx(1.25)
    assert corrected(fast, measurement(2.0)).value < fast.p90_ms * factor < fast.p99_ms * factor
    assert footing(fast, None) == footing(measurement(0.8, ratio=None), measurement(2.0)) == 1.0


def test_power_and_energy_are_freed_of_drift_by_their_ratios_where_one_sensor_measured_both() -> None:
    ratios = {"power_ratio": Interval(0.8, 0.7, 0.9), "energy_ratio": Interval(0.4, 0.3, 0.5)}
    hot, base = measurement(power=power(3.5), **ratios), measurement(2.73, power=power(4.0))
    found = corrected_power(hot, base)
    assert found is not None
    half = math.hypot(0.1 * 4.0, 0.8 * 0.05)
    assert (found.mean_w.low, found.mean_w.value, found.mean_w.high) == pytest.approx((3.2 - half, 3.2, 3.2 + half))
    assert found.energy_total_mj.value == pytest.approx(0.4 * 4.0 * 1.3)
    for alone in (None, measurement(), measurement(power=power(4.0, scope="module"))):
        assert corrected_power(hot, alone) == hot.power
    assert corrected_power(measurement(power=power(3.5)), base) == power(3.5)
    assert corrected_power(measurement(), base) is None
