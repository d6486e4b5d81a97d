"""Which networks no other beats in everything."""

from __future__ import annotations

import random

from pipeline.pareto import device_costs, non_dominated
from pipeline.records import Interval
from tests.examples import measurement, power


def test_no_points_have_no_front() -> None:
    assert non_dominated([]) == []


def test_the_front_is_what_comparing_every_pair_gives() -> None:
    draw = random.Random(0)
    points = [(draw.randint(0, 9), draw.randint(0, 9), draw.randint(0, 9)) for _ in range(200)]

    def beaten(i: int) -> bool:
        return any(
            all(a <= b for a, b in zip(points[j], points[i], strict=True)) and (points[j] != points[i] or j < i)
            for j in range(len(points))
            if j != i
        )

    assert non_dominated([tuple(map(float, p)) for p in points]) == [i for i in range(len(points)) if not beaten(i)]


def test_latency_is_the_ratio_only_where_every_network_has_one() -> None:
    paired, alone = measurement(1.0), measurement(2.0, ratio=None)
    assert device_costs([0.9], [paired])[0][1] == 1.0 / 2.73
    assert [cost[1] for cost in device_costs([0.9, 0.8], [paired, alone])] == [1.0, 2.0]


def test_energy_is_the_ratio_only_where_every_network_has_one() -> None:
    paired = measurement(power=power(2.0), energy_ratio=Interval(0.5, 0.4, 0.6))
    alone = measurement(power=power(3.0))
    assert device_costs([0.9], [paired])[0][2] == 0.5
    assert [cost[2] for cost in device_costs([0.9, 0.8], [paired, alone])] == [2.0 * 1.3, 3.0 * 1.3]


def test_energy_counts_only_where_every_network_has_it() -> None:
    with_power, without = measurement(power=power(2.0)), measurement()
    assert len(device_costs([0.9], [with_power])[0]) == 3
    assert [len(cost) for cost in device_costs([0.9, 0.9], [with_power, without])] == [2, 2]
