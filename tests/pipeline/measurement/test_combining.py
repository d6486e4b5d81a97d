from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import t as student_t

from pipeline.measurement.combining import combined, select_more_valid
from pipeline.measurement.validity import why_invalid
from pipeline.records import Interval, Measurement
from tests.examples import measurement, power


def ratios(*values: float, half: float = 0.01) -> list[Measurement]:
    return [measurement(ratio=Interval(value, value - half, value + half)) for value in values]


def whole(parts: Sequence[Measurement], ci_rel: float = 0.02) -> Measurement:
    return combined(parts, ci_rel=ci_rel)


def test_processes_count_alike_and_what_they_cost_is_added() -> None:
    parts = [measurement(inferences=100, ratio=Interval(0.52, 0.51, 0.53)), *ratios(0.48, 0.5)]
    found = whole(parts)
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx((0.52 * 0.48 * 0.5) ** (1 / 3))
    assert (found.processes, found.inferences) == (3, 1900)
    assert (found.seconds, found.bytes_sent) == (7.5, 12600)


def test_the_interval_comes_from_between_the_processes_whatever_each_of_them_says() -> None:
    for half in (0.0001, 0.1):
        found = whole(ratios(0.48, 0.49, 0.5, 0.51, 0.52, half=half)).ratio
        assert found is not None
        logs = np.log([0.48, 0.49, 0.5, 0.51, 0.52])
        own = student_t.ppf(0.975, 4) * logs.std(ddof=1) / math.sqrt(5)
        assert math.log(found.high / found.value) == pytest.approx(own)
        assert math.log(found.value / found.low) == pytest.approx(own)


def test_two_processes_cannot_tell_how_they_spread_so_their_own_intervals_count() -> None:
    found = whole(ratios(0.4, 0.6)).ratio
    assert found is not None
    assert found.high / found.value == pytest.approx(math.exp(math.hypot(0.01 / 0.4, 0.01 / 0.6) / 2), rel=1e-4)


def test_one_process_is_itself() -> None:
    (one,) = ratios(0.5)
    assert whole([one]) == one


def test_a_tail_counts_by_its_inferences() -> None:
    calm, rough = measurement(p99_ms=2.0, inferences=300), measurement(p99_ms=9.0, inferences=100)
    assert whole([calm, rough, calm]).p99_ms == pytest.approx((600 * 2 + 100 * 9) / 700)


def test_of_what_makes_a_part_useless_nothing_is_hidden_and_what_is_imprecise_is_so_of_the_whole() -> None:
    bad = measurement(flags=("throttled", "noisy", "few_samples"))
    assert whole([bad, *ratios(bad.ratio.value, bad.ratio.value)]).flags == ("throttled",)  # type: ignore[union-attr]
    assert whole(ratios(0.4, 0.5, 0.6)).flags == ("noisy",)
    assert whole([measurement(inferences=9) for _ in range(3)]).flags == ("few_samples",)
    sparse = measurement(power=power(samples=3))
    assert whole([sparse, sparse, sparse]).flags == ("few_samples",)
    swinging = [measurement(power=power(watts)) for watts in (2.0, 3.0, 4.0)]
    assert whole(swinging).flags == ("power_noisy",)


def test_ratios_that_a_process_lacks_are_not_made_up() -> None:
    assert whole([*ratios(0.5, 0.5), measurement(ratio=None)]).ratio is None


def test_power_is_absent_where_either_look_lacks_it() -> None:
    assert whole([measurement(power=power()), measurement()]).power is None
    both = whole([measurement(power=power(3.0)), measurement(power=power(4.0))]).power
    assert both is not None
    assert both.mean_w.value == pytest.approx(3.5)
    assert both.samples == 240


def test_power_and_energy_over_the_reference_pool_as_latency_does() -> None:
    one, other = Interval(0.4, 0.38, 0.42), Interval(0.5, 0.48, 0.52)
    each = [measurement(ratio=r, power_ratio=r, energy_ratio=r) for r in (one, other, one)]
    both = whole(each)
    assert both.ratio == both.power_ratio == both.energy_ratio
    assert whole([*each, measurement()]).energy_ratio is None


def test_of_two_measurements_the_one_with_fewer_doubts_is_taken_whatever_its_figures() -> None:
    clean, doubtful = measurement(2.0), measurement(1.0, flags=("throttled",))
    assert select_more_valid(doubtful, clean).p50_ms == clean.p50_ms
    assert select_more_valid(clean, doubtful).p50_ms == clean.p50_ms
    assert select_more_valid(doubtful, measurement(3.0, flags=("noisy",))).p50_ms.value == 3.0


def test_what_a_second_measurement_cost_is_added() -> None:
    again = select_more_valid(measurement(flags=("noisy",)), measurement(bytes_sent=0))
    assert again.bytes_sent == 4200
    assert again.seconds == 5.0


def test_what_is_invalid_counts_before_what_is_imprecise() -> None:
    imprecise = measurement(1.0, flags=("noisy", "few_samples", "power_noisy"))
    assert select_more_valid(imprecise, measurement(2.0, flags=("throttled",))).flags == imprecise.flags


def test_what_was_tolerated_in_either_look_is_tolerated_in_both_together() -> None:
    one = measurement(flags=("competing_load",), conditions={"tolerated": ["competing_load"]})
    other = measurement(
        flags=("clock_changed",), conditions={"tolerated": ["clock_changed"], "governor": "performance"}
    )
    for both in (whole([one, other]), whole([other, one])):
        assert both.conditions["tolerated"] == ["clock_changed", "competing_load"]
        assert why_invalid(both) == ()
