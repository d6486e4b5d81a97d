from __future__ import annotations

import pytest

from pipeline.doubts import why_invalid
from pipeline.pooling import less_doubtful, pooled
from pipeline.records import Interval
from tests.examples import measurement, power


def test_two_looks_count_by_their_inferences() -> None:
    short = measurement(ratio=Interval(0.52, 0.51, 0.53), inferences=100)
    long = measurement(ratio=Interval(0.48, 0.47, 0.49), inferences=300)
    both = pooled(short, long)
    assert both.ratio is not None
    assert both.ratio.value == pytest.approx(0.49)
    assert both.inferences == 400
    assert both.seconds == short.seconds + long.seconds
    assert both.bytes_sent == short.bytes_sent + long.bytes_sent


def test_looks_that_contradict_each_other_give_an_interval_over_both_figures() -> None:
    one = measurement(ratio=Interval(0.4, 0.39, 0.41), inferences=100)
    other = measurement(ratio=Interval(0.6, 0.59, 0.61), inferences=100)
    both = pooled(one, other).ratio
    assert both is not None
    assert (both.low, both.high) == (pytest.approx(0.4), pytest.approx(0.6))


def test_looks_that_agree_are_surer_together() -> None:
    one = measurement(inferences=500)
    assert pooled(one, one).p50_ms.half_width < one.p50_ms.half_width


def test_tails_and_doubts_are_never_hidden() -> None:
    calm, rough = measurement(p99_ms=2.0), measurement(p99_ms=9.0, flags=("noisy",))
    assert pooled(rough, calm).p99_ms == pooled(calm, rough).p99_ms == 9.0
    assert pooled(rough, calm).flags == ("noisy",)


def test_power_is_absent_where_either_look_lacks_it() -> None:
    assert pooled(measurement(power=power()), measurement()).power is None
    both = pooled(measurement(power=power(3.0)), measurement(power=power(4.0))).power
    assert both is not None
    assert both.mean_w.value == pytest.approx(3.5)
    assert both.samples == 240


def test_power_and_energy_over_the_reference_pool_as_latency_does() -> None:
    one, other = Interval(0.4, 0.38, 0.42), Interval(0.5, 0.48, 0.52)
    both = pooled(measurement(ratio=one, power_ratio=one, energy_ratio=one),
                  measurement(ratio=other, power_ratio=other, energy_ratio=other))  # fmt: skip
    assert both.ratio == both.power_ratio == both.energy_ratio
    assert pooled(measurement(energy_ratio=one), measurement()).energy_ratio is None


def test_of_two_measurements_the_one_with_fewer_doubts_is_taken_whatever_its_figures() -> None:
    clean, doubtful = measurement(2.0), measurement(1.0, flags=("throttled",))
    assert less_doubtful(doubtful, clean).p50_ms == clean.p50_ms
    assert less_doubtful(clean, doubtful).p50_ms == clean.p50_ms
    assert less_doubtful(doubtful, measurement(3.0, flags=("noisy",))).p50_ms.value == 3.0


def test_what_a_second_measurement_cost_is_added() -> None:
    again = less_doubtful(measurement(flags=("noisy",)), measurement(bytes_sent=0))
    assert again.bytes_sent == 4200
    assert again.seconds == 5.0


def test_what_is_invalid_counts_before_what_is_imprecise() -> None:
    imprecise = measurement(1.0, flags=("noisy", "few_samples", "power_noisy"))
    assert less_doubtful(imprecise, measurement(2.0, flags=("throttled",))).flags == imprecise.flags


def test_what_was_tolerated_in_either_look_is_tolerated_in_both_together() -> None:
    one = measurement(flags=("competing_load",), conditions={"tolerated": ["competing_load"]})
    other = measurement(
        flags=("clock_changed",), conditions={"tolerated": ["clock_changed"], "governor": "performance"}
    )
    for both in (pooled(one, other), pooled(other, one)):
        assert both.conditions["tolerated"] == ["clock_changed", "competing_load"]
        assert why_invalid(both) == ()
