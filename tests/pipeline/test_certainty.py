"""Which side of a target a network is on, and whether its measurement can tell."""

from __future__ import annotations

import math

import pytest

from pipeline.certainty import may_meet_latency, surely_meets
from pipeline.records import Interval
from tests.examples import measurement

LIMITS = {"latency": 0.5}


@pytest.mark.parametrize(("high", "sure"), [(0.5, True), (0.501, False), (math.inf, False), (math.nan, False)])
def test_a_latency_is_met_surely_where_its_whole_interval_meets_it(high: float, sure: bool) -> None:
    found = measurement(ratio=Interval(0.49, 0.48, high))
    assert surely_meets(found, LIMITS) == sure
    assert surely_meets(found, {"size": 0.5})


@pytest.mark.parametrize("flag", ["noisy", "few_samples", "power_noisy"])
def test_power_and_energy_are_met_surely_where_enough_was_measured(flag: str) -> None:
    for metric in ("power", "energy"):
        assert surely_meets(measurement(), {metric: 0.5})
        assert not surely_meets(measurement(flags=(flag,)), {metric: 0.5})
    assert surely_meets(measurement(flags=(flag,)), LIMITS)
    assert surely_meets(measurement(flags=("competing_load",)), {"energy": 0.5})  # tolerated, or it would be no trial


@pytest.mark.parametrize(
    ("value", "low", "may"), [(0.505, 0.49, True), (0.505, 0.501, False), (0.49, 0.48, False), (0.505, math.nan, False)]
)
def test_a_latency_that_was_missed_by_less_than_its_interval_may_be_met(value: float, low: float, may: bool) -> None:
    assert may_meet_latency(measurement(ratio=Interval(value, low, 0.51)), LIMITS) == may
    assert not may_meet_latency(measurement(ratio=Interval(value, low, 0.51)), {"energy": 0.5})
    assert not may_meet_latency(measurement(ratio=None), LIMITS)
