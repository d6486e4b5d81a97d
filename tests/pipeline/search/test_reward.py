from __future__ import annotations

import pytest

from pipeline.errors import MeasureError
from pipeline.measurement.relative_costs import RelativeCosts
from pipeline.search.reward import AfterEachGroup, Weights, require_comparable, reward
from tests.examples import measurement, power, space

EVEN = Weights([1.0, 1.0], [0.2, 0.2], [0.1, 0.1], [0.3, 0.3], latency=0.5, violation=2.0)


def test_the_terms_are_those_of_the_formula_and_add_up() -> None:
    value, terms = reward(0.9, RelativeCosts(latency=0.6, power=0.8), space(), (50, 75), EVEN, {"latency": 0.5})
    assert terms == pytest.approx({
        "accuracy": 0.9, "intensity": -0.1 * (0.5 + 0.75) / 2, "level": -0.3 * (0.5 + 0.75) / 2,
        "latency": -0.5 * 0.6, "violation": -2.0 * 0.2, "power": -0.2 * 0.8,
    })  # fmt: skip
    assert value == pytest.approx(sum(terms.values()))


def test_without_a_sensor_there_is_no_power_term() -> None:
    assert "power" not in reward(1.0, RelativeCosts(latency=1.0), space(), (0, 0), EVEN, {})[1]


def test_a_group_with_its_own_weight_counts_by_it() -> None:
    own = Weights([1.0, 1.0], [0.0, 0.0], [0.4, 0.0], [0.0, 0.0], latency=0.0, violation=0.0)
    first, _ = reward(1.0, RelativeCosts(latency=1.0), space(), (50, 0), own, {})
    second, _ = reward(1.0, RelativeCosts(latency=1.0), space(), (0, 50), own, {})
    assert (first, second) == pytest.approx((1.0 - 0.4 * 0.5 / 2, 1.0))


def test_what_each_group_changes_counts_by_its_own_weights() -> None:
    own = Weights([1.0, 3.0], [0.5, 0.1], [0.0, 0.0], [0.0, 0.0], latency=0.0, violation=0.0)
    costs = RelativeCosts(latency=1.0, power=0.7)
    _, terms = reward(0.8, costs, space(), (50, 50), own, {}, AfterEachGroup([0.95, 0.8], [0.8, 0.7]))
    assert terms["accuracy"] == pytest.approx(2.0 - 1.0 * 0.05 - 3.0 * 0.15)
    assert terms["power"] == pytest.approx(-(0.3 - 0.5 * 0.2 - 0.1 * 0.1))


def test_where_all_groups_weigh_the_same_the_steps_add_up_to_the_whole() -> None:
    costs = RelativeCosts(latency=0.6, power=0.8)
    _, whole = reward(0.9, costs, space(), (50, 75), EVEN, {})
    _, steps = reward(0.9, costs, space(), (50, 75), EVEN, {}, AfterEachGroup([0.97, 0.9], [0.9, 0.8]))
    assert not EVEN.differ
    assert steps == pytest.approx(whole)


def test_a_removed_block_is_gone_whole() -> None:
    _, terms = reward(1.0, RelativeCosts(latency=0.5), space(), (0, 100), EVEN, {})
    assert terms["intensity"] == pytest.approx(-0.1 / 2)
    assert terms["level"] == pytest.approx(-0.3 / 2)


def test_an_invalid_measurement_is_never_rewarded() -> None:
    throttled = measurement(flags=("noisy", "throttled"), conditions={"times_measured": 3})
    with pytest.raises(MeasureError, match=r"^quarantined: throttled, measured 3 times$"):
        require_comparable(throttled)
    require_comparable(measurement(flags=("noisy", "few_samples")))


def test_estimated_power_is_not_set_beside_measured_power() -> None:
    measured, estimated = measurement(power=power()), measurement(power=power(estimated=True, source="pmic"))
    with pytest.raises(MeasureError, match=r"is estimated \(pmic\), the base model's measured \(ina219\)"):
        require_comparable(estimated, measured)
    require_comparable(measured, measured)
    require_comparable(estimated, estimated)


def test_a_figure_without_its_reference_is_no_reward() -> None:
    with pytest.raises(ValueError, match="without a reference"):
        require_comparable(measurement(ratio=None))
    with pytest.raises(MeasureError, match="the latency of this candidate was not measured"):
        reward(1.0, RelativeCosts(power=0.5), space(), (0, 0), EVEN, {})
