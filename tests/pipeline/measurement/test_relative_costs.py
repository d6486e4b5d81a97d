from __future__ import annotations

import pytest

from pipeline.errors import MeasureError
from pipeline.measurement.relative_costs import RelativeCosts, relative_costs, violation
from pipeline.records import Interval
from tests.examples import measurement


def test_violations_of_several_targets_add_up_relative_to_their_limits() -> None:
    costs = RelativeCosts(latency=0.6, energy=0.3, size=0.5)
    assert violation(costs, {"latency": 0.5, "energy": 0.4, "size": 0.4}) == pytest.approx(0.2 + 0.25)
    assert violation(costs, {"latency": 0.6}) == 0.0


def test_a_density_is_held_against_its_limit_like_any_figure() -> None:
    assert violation(relative_costs(measurement(), sparsity=0.7), {"density": 0.2}) == pytest.approx(0.5)
    assert violation(relative_costs(measurement(), sparsity=0.8), {"density": 0.2}) == 0.0


def test_a_target_whose_figure_was_not_measured_never_counts_as_met() -> None:
    with pytest.raises(MeasureError, match="the energy of this candidate was not measured"):
        violation(RelativeCosts(latency=0.1), {"energy": 0.5})


def test_costs_are_taken_over_the_base_as_measured_beside_it() -> None:
    found = measurement(power_ratio=Interval(0.7, 0.6, 0.8), energy_ratio=Interval(0.4, 0.3, 0.5))
    costs = relative_costs(found, size=0.3)
    assert (costs.size, costs.power, costs.energy, costs.density) == (0.3, 0.7, 0.4, 1.0)
    assert found.ratio is not None
    assert costs.latency == found.ratio.value
    assert "size" not in relative_costs(found).known
