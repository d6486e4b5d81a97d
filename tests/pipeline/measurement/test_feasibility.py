"""Which side of a target a network is on, and whether its measurement can tell."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.measurement.feasibility import certainly_meets, certainly_misses, deviations, possibly_meets
from pipeline.records import Interval, Measurement
from pipeline.targets import Metric
from tests.examples import measurement

FIELDS: dict[Metric, str] = {"latency": "ratio", "power": "power_ratio", "energy": "energy_ratio"}
MEASURED: list[Metric] = list(FIELDS)
OVER = Interval(0.6, 0.55, 0.65)
NEAR = Interval(0.505, 0.49, 0.52)
UNDER = Interval(0.4, 0.39, 0.41)


def found(**ratios: Interval | None) -> Measurement:
    """Return a measurement by its ratios' metrics; one that is not named was not measured."""
    changes: dict[str, Any] = {"ratio": None} | {
        FIELDS[metric]: ratios[metric] for metric in FIELDS if metric in ratios
    }
    return measurement(**changes)


@pytest.mark.parametrize("metric", MEASURED)
@pytest.mark.parametrize(("high", "sure"), [(0.5, True), (0.501, False), (math.inf, False), (math.nan, False)])
def test_a_target_is_met_surely_where_the_whole_interval_meets_it(metric: Metric, high: float, sure: bool) -> None:
    assert certainly_meets(found(**{metric: Interval(0.49, 0.48, high)}), {metric: 0.5}) == sure


@pytest.mark.parametrize("flag", ["noisy", "few_samples", "power_noisy", "competing_load"])
def test_flags_say_nothing_of_the_side_of_a_target(flag: str) -> None:
    assert certainly_meets(measurement(energy_ratio=UNDER, flags=(flag,)), {"energy": 0.5})


def test_size_and_density_are_counted_and_need_no_measurement() -> None:
    for limits in ({"size": 0.5}, {"density": 0.1}):
        assert certainly_meets(found(), limits)
        assert not certainly_misses(found(), limits)
        assert not possibly_meets(found(), limits)


@pytest.mark.parametrize("metric", MEASURED)
def test_what_was_not_measured_is_neither_met_nor_missed_surely(metric: Metric) -> None:
    assert not certainly_meets(found(), {metric: 0.5})
    assert not certainly_misses(found(), {metric: 0.5})
    assert not possibly_meets(found(), {metric: 0.5})


@pytest.mark.parametrize("metric", MEASURED)
@pytest.mark.parametrize(
    ("value", "low", "may"), [(0.505, 0.49, True), (0.505, 0.501, False), (0.49, 0.48, False), (0.505, math.nan, False)]
)
def test_a_target_that_was_missed_by_less_than_the_interval_may_be_met(
    metric: Metric, value: float, low: float, may: bool
) -> None:
    measured = found(**{metric: Interval(value, low, 0.51)})
    assert possibly_meets(measured, {metric: 0.5}) == may
    assert certainly_misses(measured, {metric: 0.5}) == (low > 0.5)
    other: Metric = "power" if metric == "latency" else "latency"
    assert not possibly_meets(measured, {other: 0.5})


@pytest.mark.parametrize(
    ("latency", "energy", "meets", "misses", "may"),
    [
        (UNDER, UNDER, True, False, False),
        (UNDER, NEAR, False, False, True),
        (NEAR, NEAR, False, False, True),
        (NEAR, OVER, False, True, False),
        (UNDER, OVER, False, True, False),
    ],
)
def test_of_several_targets_the_worst_counts(
    latency: Interval, energy: Interval, meets: bool, misses: bool, may: bool
) -> None:
    limits: dict[Metric, float] = {"latency": 0.5, "energy": 0.5}
    for measured in (found(latency=latency, energy=energy), found(latency=energy, energy=latency)):
        assert certainly_meets(measured, limits) == meets
        assert certainly_misses(measured, limits) == misses
        assert possibly_meets(measured, limits) == may


def test_a_figure_of_unknown_width_is_sure_of_nothing() -> None:
    met, missed = (found(energy=Interval.of_unknown_width(value)) for value in (0.4, 0.6))
    assert not certainly_meets(met, {"energy": 0.5})
    assert possibly_meets(missed, {"energy": 0.5})


def test_a_figure_counts_by_its_width() -> None:
    told = found(latency=Interval(0.5, 0.4804, 0.5196), energy=Interval(0.4, -math.inf, math.inf))
    assert deviations(told) == pytest.approx({"latency": 0.01})
