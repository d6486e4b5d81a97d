from __future__ import annotations

import pytest

from pipeline.errors import MeasureError
from pipeline.records import Interval
from pipeline.search.reward import Ratios, Weights, ratios_of, reward, violation
from tests.examples import measurement, power, space

EVEN = Weights([1.0, 1.0], [0.2, 0.2], [0.1, 0.1], [0.3, 0.3], latency=0.5, violation=2.0)


def test_the_terms_are_those_of_the_formula_and_add_up() -> None:
    value, terms = reward(Ratios(accuracy=0.9, latency=0.6, power=0.8), space(), (50, 75), EVEN, {"latency": 0.5})
    assert terms == pytest.approx({
        "accuracy": 0.9, "intensity": -0.1 * (0.5 + 0.75) / 2, "level": -0.3 * (0.5 + 0.75) / 2,
        "latency": -0.5 * 0.6, "violation": -2.0 * 0.2, "power": -0.2 * 0.8,
    })  # fmt: skip
    assert value == pytest.approx(sum(terms.values()))


def test_without_a_sensor_there_is_no_power_term() -> None:
    assert "power" not in reward(Ratios(accuracy=1.0, latency=1.0), space(), (0, 0), EVEN, {})[1]


def test_a_group_with_its_own_weight_counts_by_it() -> None:
    own = Weights([1.0, 1.0], [0.0, 0.0], [0.4, 0.0], [0.0, 0.0], latency=0.0, violation=0.0)
    first, _ = reward(Ratios(accuracy=1.0, latency=1.0), space(), (50, 0), own, {})
    second, _ = reward(Ratios(accuracy=1.0, latency=1.0), space(), (0, 50), own, {})
    assert (first, second) == pytest.approx((1.0 - 0.4 * 0.5 / 2, 1.0))


def test_a_removed_block_is_gone_whole() -> None:
    _, terms = reward(Ratios(accuracy=1.0, latency=0.5), space(), (0, 100), EVEN, {})
    assert terms["intensity"] == pytest.approx(-0.1 / 2)
    assert terms["level"] == pytest.approx(-0.3 / 2)


def test_violations_of_several_targets_add_up_relative_to_their_limits() -> None:
    ratios = Ratios(accuracy=1.0, latency=0.6, energy=0.3, size=0.5)
    assert violation(ratios, {"latency": 0.5, "energy": 0.4, "size": 0.4}) == pytest.approx(0.2 + 0.25)
    assert violation(ratios, {"latency": 0.6}) == 0.0


def test_a_density_is_held_against_its_limit_like_any_figure() -> None:
    assert violation(ratios_of(0.5, 0.9, 1.0, measurement(), density=0.3), {"density": 0.2}) == pytest.approx(0.5)
    assert violation(ratios_of(0.5, 0.9, 1.0, measurement(), density=0.2), {"density": 0.2}) == 0.0


def test_a_target_whose_figure_was_not_measured_never_counts_as_met() -> None:
    with pytest.raises(MeasureError, match="the energy of this candidate was not measured"):
        violation(Ratios(accuracy=1.0, latency=0.1), {"energy": 0.5})


def test_ratios_are_taken_over_the_base_and_need_a_reference() -> None:
    taken = ratios_of(
        0.45, 0.9, 0.3, measurement(power_ratio=Interval(0.7, 0.6, 0.8), energy_ratio=Interval(0.4, 0.3, 0.5))
    )
    assert (taken.accuracy, taken.size, taken.power, taken.energy) == (0.5, 0.3, 0.7, 0.4)
    with pytest.raises(ValueError, match="without a reference"):
        ratios_of(0.5, 0.9, 1.0, measurement(ratio=None))


def test_an_invalid_measurement_is_never_rewarded() -> None:
    throttled = measurement(flags=("noisy", "throttled"), conditions={"times_measured": 3})
    with pytest.raises(MeasureError, match=r"^quarantined: throttled, measured 3 times$"):
        ratios_of(0.5, 0.9, 1.0, throttled)
    assert ratios_of(0.5, 0.9, 1.0, measurement(flags=("noisy", "few_samples"))).size == 1.0


def test_estimated_power_is_not_set_beside_measured_power() -> None:
    measured, estimated = measurement(power=power()), measurement(power=power(estimated=True, source="pmic"))
    with pytest.raises(MeasureError, match=r"is estimated \(pmic\), the base model's measured \(ina219\)"):
        ratios_of(0.5, 0.9, 1.0, estimated, measured)
    assert ratios_of(0.5, 0.9, 1.0, measured, measured).size == ratios_of(0.5, 0.9, 1.0, estimated, estimated).size
